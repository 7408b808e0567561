//! The indirect way: publishing, following when nothing is new, a first pull, and many followers.

use std::path::Path;

use crate::Bench;
use crate::contender::{self, Contender};
use crate::measure::{self, Taken, median};
use crate::s3::{self, S3};
use crate::site::{self, DIRECTORIES, SOUNDS};
use crate::support::{Cluster, Host, LIMIT, Running, eventually};

const STORE: &str = "/srv/xds-store";
/// Where the node of a case that has all its hosts' files on one host keeps what it pulls.
const PULLED: &str = "/srv/pulled";
const PORT: u16 = 8443;
/// Passes in a row: one alone is over sooner than a shell is started.
const PASSES: u32 = 20;

fn configured() -> String {
    format!("[store]\nurl = \"file://{STORE}\"\n")
}

/// Lets the contenders take turns on a host, each after `prepare`, and prints a row for each. A script does the same `times`
/// times.
fn take_turns(bench: &Bench, case: &str, times: u32, contenders: &[(&Host, Contender)], prepare: &dyn Fn()) {
    let mut taken: Vec<Vec<Taken>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..bench.rounds {
        for ((host, contender), taken) in contenders.iter().zip(&mut taken) {
            prepare();
            let once = measure::run_on(host, contender);
            taken.push(Taken {
                time: once.time / times,
                processor: once.processor / f64::from(times),
                wire: once.wire / u64::from(times),
            });
        }
    }
    let first = median(taken[0].clone());
    for ((_, contender), taken) in contenders.iter().zip(taken) {
        let taken = median(taken);
        println!(
            "| {case} | {} | {:.3} s | {:.2} | {:.3} s | | {:.1} MB |",
            contender.name,
            taken.time.as_secs_f64(),
            taken.time.as_secs_f64() / first.time.as_secs_f64(),
            taken.processor,
            taken.wire as f64 / 1e6,
        );
    }
}

/// A publication of one change, beside a run that brings the same change to one node.
pub(crate) fn a_publication(bench: &Bench) {
    let cluster = bench.cluster(1, 4, &configured());
    site::telephony(&cluster.main, 28_000, 2_000);
    cluster.main.sh(format!("mkdir -m 0700 {STORE} && xds-sync -q store init && xds-sync -q sync")).ok();
    let edit = || {
        let file = format!("{SOUNDS}/d5/f5.wav");
        let edit = format!(
            "xds-sync -q sync && date +%N >{file}; touch -d \"@$(($(date +%s) - 3600 - RANDOM % 3000))\" {file}"
        );
        cluster.main.sh(edit).ok();
    };
    let run = Contender { name: "xds-sync sync, 1 node", script: "xds-sync -q sync --node mds1".to_owned() };
    let publish = Contender { name: "xds-sync publish", script: "xds-sync -q publish".to_owned() };
    let main = &cluster.main;
    let contenders = [(main, run), (main, publish)];
    take_turns(bench, "one file of 28,000 changed", 1, &contenders, &edit);
}

/// Main with a hub, and a node that follows through it.
fn with_a_hub(bench: &Bench, directories: usize) -> (Cluster, Running) {
    let cluster = bench.cluster_of(1, directories, "[main]\nname = \"main\"\n", &configured());
    let (main, node) = (&cluster.main, &cluster.nodes[0]);
    main.sh(format!("mkdir -m 0700 {STORE} && xds-sync -q store init")).ok();
    node.sh("mkdir -p /etc/xds-sync && ssh-keygen -q -t ed25519 -N '' -f /etc/xds-sync/node_key").ok();
    add_follower(main, &node.read_text("/etc/xds-sync/node_key.pub"), "");
    let hub = main.spawn(["xds-sync", "serve", "--listen", &format!("0.0.0.0:{PORT}")]);
    let certificate = "/var/lib/xds-sync/hub/certificate.pem";
    eventually("the hub", LIMIT, || main.exists(certificate));
    node.write("/etc/xds-sync/hub.pem", main.read(certificate));
    node.write("/etc/xds-sync/main.pub", main.read("/root/.ssh/rsync_xds.pub"));
    let store = format!("url = 'https://main:{PORT}/store'\nca = '/etc/xds-sync/hub.pem'");
    node.write("/etc/xds-sync/node.toml", follower(&store, "/var/lib/xds-sync", &DIRECTORIES));
    (cluster, hub)
}

/// Adds the node that follows to Main's configuration.
fn add_follower(main: &Host, key: &str, more: &str) {
    let config = main.read_text("/etc/xds-sync/config.toml");
    let node = format!("[[node]]\nname = \"mds1\"\nvia = \"store\"\nkey = \"{}\"\n{more}", key.trim());
    main.write("/etc/xds-sync/config.toml", format!("{config}\n{node}"));
}

/// A `node.toml`.
fn follower(store: &str, state_dir: &str, roots: &[&str]) -> String {
    format!(
        "roots = {roots:?}\nstate_dir = '{state_dir}'\n[store]\n{store}\n[follow]\nname = 'mds1'\n\
         main_key = '/etc/xds-sync/main.pub'\nidentity = '/etc/xds-sync/node_key'\n"
    )
}

/// A pass that finds nothing new, through the hub, with a connection of its own; and what a connection alone takes.
pub(crate) fn nothing_new(bench: &Bench) {
    let (cluster, _hub) = with_a_hub(bench, 4);
    let (main, node) = (&cluster.main, &cluster.nodes[0]);
    site::telephony(main, 28_000, 2_000);
    main.sh("xds-sync -q publish").ok();
    node.sh("xds-sync -q follow --once").ok();
    let again = |command: &str| format!("set -e; for n in $(seq {PASSES}); do {command}; done");
    let follow = Contender { name: "xds-sync follow --once", script: again("xds-sync -q follow --once") };
    let curl = format!(
        "curl -s -o /tmp/key --cacert /etc/xds-sync/hub.pem https://main:{PORT}/ssh-key/rsync_xds.pub"
    );
    let curl = Contender { name: "curl, one request to the hub", script: again(&curl) };
    let program = Contender { name: "xds-sync --version", script: again("xds-sync --version >/dev/null") };
    let contenders = [(node, follow), (node, curl), (node, program)];
    take_turns(bench, "nothing new, through the hub, 28,000 files", PASSES, &contenders, &|| {});
}

/// What is new to a node that has nothing yet.
pub(crate) fn a_first_pull(bench: &Bench) {
    let what = "first pull, 28,000 files, 1.4 GB";
    {
        let (cluster, _hub) = with_a_hub(bench, 1);
        let (main, node) = (&cluster.main, &cluster.nodes[0]);
        site::fill(main, SOUNDS, 28_000, 50_000);
        main.sh("xds-sync -q publish").ok();
        let follow =
            Contender { name: "xds-sync follow --once", script: "xds-sync -q follow --once".to_owned() };
        let _rclone = main.spawn(["bash", "-c", &contender::rclone_serve()]);
        let contenders =
            [(node, follow), (main, contender::rsync(&cluster)), (node, contender::rclone_http())];
        take_turns(bench, &format!("{what}, through the hub; ssh"), 1, &contenders, &|| {
            site::empty(&cluster.nodes);
            node.sh("rm -rf /var/lib/xds-sync/*").ok();
        });
    }
    let cluster = bench.cluster_of(0, 1, "[main]\nname = \"main\"\n", &configured());
    let main = &cluster.main;
    site::fill(main, SOUNDS, 28_000, 50_000);
    main.sh(format!(
        "ssh-keygen -q -t ed25519 -N '' -f /etc/xds-sync/node_key && cp /root/.ssh/rsync_xds.pub /etc/xds-sync/main.pub && \
         mkdir -m 0700 {STORE} && xds-sync -q store init"
    ))
    .ok();
    let paths = format!("paths = {{ sounds = \"{PULLED}\" }}\n");
    add_follower(main, &main.read_text("/etc/xds-sync/node_key.pub"), &paths);
    let state = "/var/lib/xds-node";
    main.write("/etc/xds-sync/node.toml", follower(&format!("url = 'file://{STORE}'"), state, &[PULLED]));
    main.sh("xds-sync -q publish").ok();
    let contenders = [
        Contender { name: "xds-sync follow --once", script: "xds-sync -q follow --once".to_owned() },
        Contender {
            name: "rsync -a --delete",
            script: format!("rsync -a --delete --exclude=/.xds-sync {SOUNDS}/ {PULLED}/"),
        },
        Contender {
            name: "rclone sync",
            script: format!("rclone -q sync --exclude '/.xds-sync/**' {SOUNDS} {PULLED}"),
        },
    ]
    .map(|contender| (main, contender));
    take_turns(bench, &format!("{what}, from a directory"), 1, &contenders, &|| {
        main.sh(format!("rm -rf {PULLED} {state} && mkdir -p {PULLED}")).ok();
    });
}

/// What this program is called with to be the S3 service of [`a_bucket`], on a host of the test bed.
pub(crate) const SERVE_BUCKET: &str = "serve-bucket";
const BUCKET_PORT: u16 = 9000;
/// Where its objects lie.
const BUCKET: &str = "/srv/bucket";

/// Serves an empty bucket until it is ended.
pub(crate) fn serve_bucket() -> ! {
    let _s3 = S3::s3s_fs_at(&format!("0.0.0.0:{BUCKET_PORT}"), Path::new(BUCKET));
    loop {
        std::thread::park();
    }
}

/// What is new to a bucket, and then to a node, each beside `rclone sync` of the same files.
pub(crate) fn a_bucket(bench: &Bench) {
    let place =
        format!("url = \"s3://bucket/xds\"\n{}\n", s3::options(&format!("http://main:{BUCKET_PORT}")));
    let cluster = bench.cluster_of(1, 1, "[main]\nname = \"main\"\n", &format!("[store]\n{place}"));
    let (main, node) = (&cluster.main, &cluster.nodes[0]);
    site::fill(main, SOUNDS, 10_000, 50_000);
    main.sh(format!("mkdir -p {BUCKET}")).ok();
    let program = std::env::current_exe().expect("the path of this program").display().to_string();
    let _s3 = main.spawn([program.as_str(), SERVE_BUCKET]);
    let answers = format!("curl -s -o /dev/null http://main:{BUCKET_PORT}");
    eventually("the service", LIMIT, || main.sh(&answers).success());
    let rclone = format!(
        "rclone -q --s3-provider Other --s3-list-version 2 --fast-list --s3-endpoint http://main:{BUCKET_PORT} --s3-access-key-id {} --s3-secret-access-key {} sync \
         --exclude '/.xds-sync/**'",
        s3::ACCESS_KEY,
        s3::SECRET_KEY
    );
    node.sh("mkdir -p /etc/xds-sync && ssh-keygen -q -t ed25519 -N '' -f /etc/xds-sync/node_key").ok();
    node.write("/etc/xds-sync/main.pub", main.read("/root/.ssh/rsync_xds.pub"));
    node.write("/etc/xds-sync/node.toml", follower(&place, "/var/lib/xds-sync", &DIRECTORIES));
    add_follower(main, &node.read_text("/etc/xds-sync/node_key.pub"), "");

    let publish = Contender { name: "xds-sync publish", script: "xds-sync -q publish".to_owned() };
    let to = Contender { name: "rclone sync", script: format!("{rclone} {SOUNDS} :s3:bucket/rclone") };
    let contenders = [(main, publish), (main, to)];
    take_turns(bench, "10,000 files, 0.5 GB, to an empty bucket", 1, &contenders, &|| {
        main.sh(format!(
            "find {BUCKET} -mindepth 3 -delete; rm -rf /var/lib/xds-sync/* && xds-sync -q store init"
        ))
        .ok();
    });
    // What rclone has put there is still there.
    main.sh("xds-sync -q publish").ok();
    let follow = Contender { name: "xds-sync follow --once", script: "xds-sync -q follow --once".to_owned() };
    let from = Contender { name: "rclone sync", script: format!("{rclone} :s3:bucket/rclone {SOUNDS}") };
    take_turns(bench, "10,000 files, 0.5 GB, from a bucket", 1, &[(node, follow), (node, from)], &|| {
        site::empty(&cluster.nodes);
        node.sh("rm -rf /var/lib/xds-sync/*").ok();
    });
}
