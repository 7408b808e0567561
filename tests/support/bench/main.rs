//! Measures xds-sync against what it replaces and what is like it, on hosts of the test bed in tmpfs;
//! `scripts/bench` builds and starts it. Every number is a ratio within one run: contenders take turns, and
//! medians are compared.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod contender;
mod followers;
mod live;
mod measure;
#[path = "../s3.rs"]
#[allow(clippy::unwrap_used, dead_code, unreachable_pub)]
mod s3;
mod site;
mod store;
#[path = "../mod.rs"]
mod support;

use contender::Contender;
use measure::{Taken, median};
use site::{DIALPLAN, SOUNDS};
use support::{Cluster, wait};

const USAGE: &str = "usage: bench PROGRAM ROUNDS [CASE…]; cases: ";
type Case = fn(&Bench);
const CASES: [(&str, Case); 21] = [
    ("nothing", nothing_to_do),
    ("growth", from_two_to_eight_nodes),
    ("dialplan", one_dialplan_file),
    ("copy4", first_copy_to_four),
    ("copy1", first_copy_to_one),
    ("file", one_file_of_many),
    ("many", a_hundred_thousand),
    ("rename", a_renamed_directory),
    ("byte", a_byte_of_a_large_file),
    ("million", a_million),
    ("live", a_change_until_it_is_there),
    ("idle", an_idle_daemon),
    ("beside", a_run_beside_the_daemon),
    ("removed", a_hundred_thousand_removed),
    ("storm", a_storm_of_changes),
    ("hostile", what_a_user_may_do),
    ("publish", store::a_publication),
    ("follow", store::nothing_new),
    ("first_pull", store::a_first_pull),
    ("bucket", store::a_bucket),
    ("followers", many_followers),
];

struct Bench {
    program: String,
    rounds: usize,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let names: Vec<&str> = CASES.iter().map(|(name, _)| *name).collect();
    let usage = || format!("{USAGE}{}", names.join(" "));
    let program = arguments.next().unwrap_or_else(|| panic!("{}", usage()));
    if program == store::SERVE_BUCKET {
        store::serve_bucket();
    }
    let rounds =
        arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or_else(|| panic!("{}", usage()));
    let asked: Vec<String> = arguments.collect();
    assert!(asked.iter().all(|asked| names.contains(&asked.as_str())), "{}", usage());
    let bench = Bench { program, rounds };
    println!("Medians of {rounds} rounds; × is how much longer than xds-sync it took.\n");
    println!(
        "| case | contender | time | × | processor, both ends | most memory, Main / node | on the wire |"
    );
    println!("| --- | --- | --: | --: | --: | --: | --: |");
    for (_, case) in
        CASES.iter().filter(|(name, _)| asked.is_empty() || asked.iter().any(|asked| asked == name))
    {
        case(&bench);
    }
}

impl Bench {
    fn cluster(&self, nodes: usize, directories: usize, more: &str) -> Cluster {
        site::cluster(&self.program, nodes, directories, None, more)
    }

    /// One whose Main has other nodes in its configuration than its hosts.
    fn cluster_of(&self, nodes: usize, directories: usize, config: &str, more: &str) -> Cluster {
        site::cluster(&self.program, nodes, directories, Some(config), more)
    }

    /// Lets the contenders take turns, each round after `prepare`, and prints a row for each.
    fn take_turns(&self, case: &str, cluster: &Cluster, contenders: &[Contender], prepare: &dyn Fn()) {
        let settle = contender::xds_sync();
        let mut taken: Vec<Vec<Taken>> = contenders.iter().map(|_| Vec::new()).collect();
        for _ in 0..self.rounds {
            for (contender, taken) in contenders.iter().zip(&mut taken) {
                prepare();
                taken.push(measure::run(cluster, contender));
                // Others know nothing of bases: xds-sync settles what they left before the next turn.
                cluster.main.sh(&settle.script).ok();
            }
        }
        let first = median(taken[0].clone());
        for (contender, taken) in contenders.iter().zip(taken) {
            prepare();
            let peak = measure::peak(cluster, contender);
            cluster.main.sh(&settle.script).ok();
            let taken = median(taken);
            println!(
                "| {case} | {} | {:.3} s | {:.2} | {:.2} s | {} / {} MB | {:.1} MB |",
                contender.name,
                taken.time.as_secs_f64(),
                taken.time.as_secs_f64() / first.time.as_secs_f64(),
                taken.processor,
                peak.main / 1000,
                peak.node / 1000,
                taken.wire as f64 / 1e6,
            );
        }
    }
}

fn nothing_to_do(bench: &Bench) {
    let cluster = bench.cluster(4, 4, "");
    site::telephony(&cluster.main, 28_000, 20_000);
    cluster.main.sh(contender::xds_sync().script).ok();
    let contenders = [
        contender::xds_sync(),
        contender::script(&cluster),
        contender::lsyncd(&cluster),
        contender::bare_ssh(&cluster),
    ];
    bench.take_turns("nothing to do, 4 nodes, 28,000 files", &cluster, &contenders, &|| {});
}

fn in_step_with_four(bench: &Bench) -> Cluster {
    let cluster = bench.cluster(4, 4, "settle = \"0s\"\n");
    site::telephony(&cluster.main, 28_000, 20_000);
    cluster.main.sh(contender::xds_sync().script).ok();
    cluster
}

fn many_followers(bench: &Bench) {
    followers::measure(&bench.program, bench.rounds);
}

fn a_change_until_it_is_there(bench: &Bench) {
    live::a_change(bench.rounds, &in_step_with_four(bench));
}

fn an_idle_daemon(bench: &Bench) {
    live::idle(&in_step_with_four(bench));
}

fn a_run_beside_the_daemon(bench: &Bench) {
    let cluster = in_step_with_four(bench);
    let contenders = [contender::xds_sync_beside(), contender::script(&cluster)];
    let case = "nothing to do, 4 nodes, 28,000 files";
    live::beside(&cluster, || bench.take_turns(case, &cluster, &contenders, &|| {}));
}

fn a_hundred_thousand_removed(bench: &Bench) {
    let cluster = bench.cluster(1, 1, "");
    site::fill(&cluster.main, SOUNDS, 100_000, 100);
    cluster.main.sh(contender::xds_sync().script).ok();
    live::removed(&cluster);
}

fn a_storm_of_changes(bench: &Bench) {
    live::storm(&in_step_with_four(bench));
}

fn from_two_to_eight_nodes(bench: &Bench) {
    for nodes in [2, 8] {
        let cluster = bench.cluster(nodes, 4, "");
        site::telephony(&cluster.main, 28_000, 2_000);
        cluster.main.sh(contender::xds_sync().script).ok();
        let contenders = [contender::xds_sync(), contender::bare_ssh(&cluster)];
        bench.take_turns(&format!("nothing to do, {nodes} nodes"), &cluster, &contenders, &|| {});
    }
}

fn one_dialplan_file(bench: &Bench) {
    let cluster = bench.cluster(4, 4, "");
    site::telephony(&cluster.main, 28_000, 20_000);
    cluster.main.sh(contender::xds_sync().script).ok();
    let edit = || {
        let edit =
            format!("date +%N >{DIALPLAN}/20-lights.conf; touch -d '1 hour ago' {DIALPLAN}/20-lights.conf");
        cluster.main.sh(edit).ok();
    };
    let contenders = [contender::xds_sync(), contender::script(&cluster)];
    bench.take_turns("one dialplan file changed, 4 nodes", &cluster, &contenders, &edit);
}

fn first_copy_to_four(bench: &Bench) {
    let cluster = bench.cluster(4, 4, "");
    site::telephony(&cluster.main, 28_000, 50_000);
    let contenders = [contender::xds_sync(), contender::script(&cluster), contender::lsyncd(&cluster)];
    bench.take_turns("first copy, 4 nodes, 28,000 files, 1.4 GB", &cluster, &contenders, &|| {
        site::empty(&cluster.nodes);
    });
}

fn first_copy_to_one(bench: &Bench) {
    let cluster = bench.cluster(1, 1, "");
    site::fill(&cluster.main, SOUNDS, 28_000, 50_000);
    let contenders = [contender::xds_sync(), contender::rsync(&cluster), contender::tar(&cluster)];
    bench.take_turns("first copy, 1 node, 28,000 files, 1.4 GB", &cluster, &contenders, &|| {
        site::empty(&cluster.nodes);
    });
}

/// The node has drifted as well, so that it is no longer in the state that was recorded.
fn one_file_of_many(bench: &Bench) {
    let cluster = bench.cluster(1, 1, "");
    site::fill(&cluster.main, SOUNDS, 28_000, 2_000);
    cluster.main.sh(contender::xds_sync().script).ok();
    let write = |file: &str| {
        format!(
            "date +%N >{SOUNDS}/{file}; touch -d \"@$(($(date +%s) - 3600 - RANDOM % 3000))\" {SOUNDS}/{file}"
        )
    };
    let edit = || {
        cluster.main.sh(write("d5/f5.wav")).ok();
        cluster.nodes[0].sh(write("d20/f7.wav")).ok();
    };
    let contenders = [contender::xds_sync(), contender::rsync(&cluster)];
    bench.take_turns("one file of 28,000 changed, 1 node", &cluster, &contenders, &edit);
}

fn a_hundred_thousand(bench: &Bench) {
    in_step(bench, 100_000, "nothing to do, 1 node, 100,000 files", true);
}

fn a_million(bench: &Bench) {
    in_step(bench, 1_000_000, "nothing to do, 1 node, 1,000,000 files", false);
}

fn in_step(bench: &Bench, files: usize, case: &str, with_unison: bool) {
    let cluster = bench.cluster(1, 1, "");
    site::fill(&cluster.main, SOUNDS, files, 100);
    cluster.main.sh(contender::xds_sync().script).ok();
    let mut contenders = vec![contender::xds_sync(), contender::rsync(&cluster)];
    if with_unison {
        let unison = contender::unison(&cluster);
        // Its first run makes its archives.
        cluster.main.sh(&unison.script).ok();
        contenders.push(unison);
    }
    bench.take_turns(case, &cluster, &contenders, &|| {});
}

fn a_renamed_directory(bench: &Bench) {
    let cluster = bench.cluster(1, 1, "");
    site::fill(&cluster.main, SOUNDS, 4_000, 50_000);
    cluster.main.sh(contender::xds_sync().script).ok();
    let rename = || {
        let there = "[ -d a ] && mv a b || { [ -d b ] && mv b a || { mkdir a && mv d* a/; }; }";
        cluster.main.sh(format!("cd {SOUNDS}; {there}")).ok();
    };
    let contenders = [contender::xds_sync(), contender::rsync(&cluster), contender::bare_ssh(&cluster)];
    bench.take_turns("a directory of 200 MB renamed, 1 node", &cluster, &contenders, &rename);
}

fn a_byte_of_a_large_file(bench: &Bench) {
    let cluster = bench.cluster(1, 1, "");
    site::fill(&cluster.main, SOUNDS, 1, 500_000_000);
    cluster.main.sh(contender::xds_sync().script).ok();
    let edit = || {
        let file = format!("{SOUNDS}/d0/f0.wav");
        let edit = format!(
            "printf \"\\\\x$(printf %02x $((RANDOM % 256)))\" | dd of={file} bs=1 seek=250000000 conv=notrunc \
             status=none; touch -d \"@$(($(date +%s) - 3600 - RANDOM % 3000))\" {file}"
        );
        cluster.main.sh(edit).ok();
    };
    let contenders = [contender::xds_sync(), contender::rsync(&cluster)];
    bench.take_turns("one byte of a file of 500 MB changed, 1 node", &cluster, &contenders, &edit);
}

/// What a user of one node may put into his directories. Each row is the first run that meets it, and one after that.
fn what_a_user_may_do(bench: &Bench) {
    for (case, attack) in site::ATTACKS {
        let cluster = bench.cluster(2, 4, "");
        site::telephony(&cluster.main, 2_000, 20_000);
        cluster.main.sh(contender::xds_sync().script).ok();
        let _held = cluster.nodes[0].spawn(["bash", "-c", attack]);
        site::is_made(&cluster.nodes[0]);
        // What is left alone, or too much, is no failure here.
        let run =
            Contender { name: "xds-sync", script: "xds-sync sync --quiet >/tmp/run 2>&1; true".to_owned() };
        let (first, later) = (measure::peak(&cluster, &run), measure::run(&cluster, &run));
        println!(
            "| {case} | first run | {:.2} s | | | {} / {} MB | |",
            first.time.as_secs_f64(),
            first.main / 1000,
            first.node / 1000
        );
        let peak = measure::peak(&cluster, &run);
        println!(
            "| {case} | later runs | {:.2} s | | {:.2} s | {} / {} MB | {:.1} MB |",
            later.time.as_secs_f64(),
            later.processor,
            peak.main / 1000,
            peak.node / 1000,
            later.wire as f64 / 1e6,
        );
        println!("{}", cluster.main.sh("head -c 600 /tmp/run").text());
    }
}
