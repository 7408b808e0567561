//! Main, or the agent, is killed in the middle of a run.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Cluster, Host, LIMIT, Running, eventually};

const SOUNDS: &str = "/var/lib/xivo/sounds";
const RECORDINGS: &str = "/var/lib/xivo/sounds/recordings";
const FILES: usize = 3000;

fn file(directory: &str, number: usize) -> String {
    format!("{directory}/f{number:04}.wav")
}

/// What the file holds in a generation: so long that no single write makes it, and never the same twice.
fn content(number: usize, generation: usize) -> Vec<u8> {
    format!("{generation} {number} ").repeat(500).into_bytes()
}

fn write_generation(host: &Host, directory: &str, generation: usize) {
    for number in 0..FILES {
        host.write_settled(file(directory, number), content(number, generation));
    }
}

/// Every visible file is wholly of one of two generations; how many are of the later one.
fn count_later(host: &Host, directory: &str, earlier: usize) -> usize {
    let is_later = |number: &usize| {
        let seen = host.read(file(directory, *number));
        let later = seen == content(*number, earlier + 1);
        assert!(later || seen == content(*number, earlier), "{number} is torn: {} bytes", seen.len());
        later
    };
    (0..FILES).filter(is_later).count()
}

/// Everything that is no longer visible of a generation is in the trash.
fn assert_nothing_lost(host: &Host, directory: &str, earlier: usize, replaced: usize) {
    let trashed =
        host.sh(format!("grep -rl '^{earlier} ' {directory}/.xds-sync/trash | grep -c wav || true")).text();
    let trashed: usize = trashed.trim().parse().unwrap();
    assert!(trashed >= replaced, "{replaced} files were replaced, {trashed} are in the trash");
}

/// Kills in the middle of a run that brings generation `earlier + 1`, once `number` has arrived or the run is over.
fn kill_once_there(
    cluster: &Cluster,
    directory: &str,
    earlier: usize,
    number: usize,
    kill: impl Fn(&mut Running),
) {
    let node = &cluster["mds1"];
    let mut run = cluster.main.spawn_xds_sync(["sync", "--quiet"]);
    let path = file(directory, number);
    let new = content(number, earlier + 1);
    eventually("the file has come or the run is over", LIMIT, || {
        !run.is_running() || node.read(&path) == new
    });
    kill(&mut run);
    run.wait_for(Duration::from_secs(60));
}

#[test]
fn killed_anywhere_every_file_is_wholly_old_or_wholly_new_and_nothing_is_lost() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    write_generation(main, SOUNDS, 0);
    main.sync_json([""; 0]).exits(0);
    // Early, in the middle and late; on Main and on the node in turn.
    for (generation, number) in [0, 700, 1500, 2200, 2900, 2999].into_iter().enumerate() {
        write_generation(main, SOUNDS, generation + 1);
        kill_once_there(&cluster, SOUNDS, generation, number, |run| {
            if generation % 2 == 0 {
                run.signal(Signal::KILL);
            } else {
                mds1.sh("pkill -KILL -f '[x]ds-sync agent' || true").ok();
            }
        });
        // An agent that lost its Main may still be at its last batch.
        eventually("the agent is gone", Duration::from_secs(30), || {
            !mds1.sh("pgrep -f '[x]ds-sync agent'").success()
        });
        let replaced = count_later(mds1, SOUNDS, generation);
        assert_nothing_lost(mds1, SOUNDS, generation, replaced);

        let run = main.sync_json([""; 0]);
        run.exits(0);
        assert_eq!(count_later(mds1, SOUNDS, generation), FILES);
        assert!(!run.changes().iter().any(|change| change.contains("conflict") || change.contains("drift")));
        main.tree(SOUNDS).assert_same(&mds1.tree(SOUNDS));
        assert_eq!(mds1.sh(format!("ls -A {SOUNDS}/.xds-sync/stage")).text(), "", "leftovers in the stage");
        assert_eq!(main.sync_json([""; 0]).exits(0).changes(), [""; 0]);
    }
}

#[test]
fn killed_while_recordings_come_to_main_none_is_torn_or_lost() {
    // All of them change at once, which `max_change` would stop.
    let directory = format!(
        "[[directory]]\nname = \"recordings\"\npath = \"{RECORDINGS}\"\ndirection = \"both\"\nmax_change = \"100%\"\n"
    );
    let cluster = Cluster::new().nodes(2).without_asterisk().more_config(&directory).build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    write_generation(mds1, RECORDINGS, 0);
    main.sync_json([""; 0]).exits(0);
    for generation in 0..3 {
        write_generation(mds1, RECORDINGS, generation + 1);
        let mut run = main.spawn_xds_sync(["sync", "--quiet"]);
        let (path, new) = (file(RECORDINGS, 1000 * generation), content(1000 * generation, generation + 1));
        let what = "the recording has come or the run is over";
        eventually(what, LIMIT, || !run.is_running() || main.read(&path) == new);
        run.signal(Signal::KILL);
        run.wait_for(Duration::from_secs(60));
        let replaced = count_later(main, RECORDINGS, generation);
        assert_nothing_lost(main, RECORDINGS, generation, replaced);
        count_later(&cluster["mds2"], RECORDINGS, generation);

        let run = main.sync_json([""; 0]);
        run.exits(0);
        assert!(!run.changes().iter().any(|change| change.contains("conflict")), "a false conflict");
        for host in cluster.hosts() {
            assert_eq!(count_later(host, RECORDINGS, generation), FILES, "{}", host.name);
        }
    }
}

/// Whether this is a file's content of some generation, as a whole.
fn is_whole(number: usize, seen: &[u8]) -> bool {
    let generation = std::str::from_utf8(seen).ok().and_then(|text| text.split(' ').next()?.parse().ok());
    generation.is_some_and(|generation| seen == content(number, generation))
}

#[test]
fn whoever_reads_while_runs_are_killed_never_sees_a_torn_file() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    write_generation(main, SOUNDS, 0);
    main.sync_json([""; 0]).exits(0);
    // Elsewhere in each run of this story: it holds for all places.
    let places = RandomState::new();
    let over = std::sync::atomic::AtomicBool::new(false);
    let root = format!("/proc/{}/root", mds1.pid());
    let reads = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                for number in 0..FILES {
                    let seen = std::fs::read(format!("{root}{}", file(SOUNDS, number))).unwrap();
                    assert!(is_whole(number, &seen), "{number} is torn: {} bytes", seen.len());
                    reads += 1;
                }
            }
            reads
        });
        // A failed assertion must stop the reader too, or the scope never ends.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for generation in 0..15 {
                write_generation(main, SOUNDS, generation + 1);
                let number = (places.hash_one(generation) % FILES as u64) as usize;
                eprintln!("generation {}: killed once {number} is there", generation + 1);
                kill_once_there(&cluster, SOUNDS, generation, number, |run| {
                    if generation % 2 == 0 {
                        run.signal(Signal::KILL);
                    } else {
                        mds1.sh("pkill -KILL -f '[x]ds-sync agent' || true").ok();
                    }
                });
            }
        }));
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        reader.join().unwrap()
    });
    assert!(reads > FILES, "{reads}");
    main.sync_json([""; 0]).exits(0);
    main.tree(SOUNDS).assert_same(&mds1.tree(SOUNDS));
}
