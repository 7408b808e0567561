//! From a change to its presence: xds-sync's daemon and lsyncd, and what the daemon costs beside that.

use std::time::{Duration, Instant};

use crate::contender;
use crate::site::{DIALPLAN, RECORDINGS, SOUNDS};
use crate::support::{Cluster, Host, LIMIT, Running, eventually};

/// Changes that are measured, one after the other.
const WRITES: usize = 200;

/// How long each change took, the shortest first.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn at(&self, share: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0[((last as f64) * share) as usize]
    }

    fn print(&self, case: &str, contender: &str, first: Option<&Latencies>) {
        let (median, worst) = (self.at(0.5), self.at(0.99));
        let ratio = median.as_secs_f64() / first.unwrap_or(self).at(0.5).as_secs_f64();
        println!(
            "| {case} | {contender} | {:.3} s, 99 of 100 within {:.3} s | {ratio:.2} | | | |",
            median.as_secs_f64(),
            worst.as_secs_f64()
        );
    }
}

/// Makes changes one after the other, and waits until each is on all of these hosts.
fn changes(writer: &Host, readers: &[&Host], count: usize, path: impl Fn(usize) -> String) -> Latencies {
    let mut taken = Vec::new();
    for number in 0..count {
        // So that no rhythm of anybody's fits, and every change is a single one.
        std::thread::sleep(Duration::from_millis(400 + (number as u64 * 37) % 300));
        let (path, content) = (path(number), format!("change {number} {:?}", Instant::now()));
        let began = Instant::now();
        writer.write(&path, &content);
        for reader in readers {
            while !reader.exists(&path) || reader.read(&path) != content.as_bytes() {
                assert!(began.elapsed() < LIMIT, "{path} does not come to {}", reader.name);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        taken.push(began.elapsed());
    }
    taken.sort();
    Latencies(taken)
}

fn start(cluster: &Cluster) -> Running {
    let daemon = cluster.main.spawn(["xds-sync", "watch"]);
    await_idle(cluster);
    daemon
}

fn await_idle(cluster: &Cluster) {
    eventually("the daemon to be idle", LIMIT, || {
        let status = cluster.main.sh("xds-sync status --json | tr -d ' '").text();
        let is_idle = status.contains("\"running\":0") && !status.contains("\"lag_ms\":1");
        let connected = status.matches("\"connected_since\":\"").count();
        is_idle && connected == cluster.nodes.len() && status.matches("\"lag_ms\":null").count() == connected
    });
}

fn stop(daemon: Running) {
    daemon.signal(rustix::process::Signal::TERM);
    daemon.wait().ok();
}

/// Four nodes, 28,000 files, all in step. Recordings are whole as soon as they are closed.
pub(crate) fn a_change(rounds: usize, cluster: &Cluster) {
    let count = WRITES.min(rounds * 40);
    let nodes: Vec<&Host> = cluster.nodes.iter().collect();
    for (case, dir) in [("a dialplan file written", DIALPLAN), ("one of 14,000 sounds written", SOUNDS)] {
        let case = format!("{case}, until on all 4 nodes");
        let path =
            |n: usize| if dir == SOUNDS { format!("{dir}/d3/f{n}.wav") } else { format!("{dir}/{n}.conf") };
        let daemon = start(cluster);
        let ours = changes(&cluster.main, &nodes, count, path);
        ours.print(&case, "xds-sync watch", None);
        stop(daemon);
        for delay in [1, 0] {
            let lsyncd = cluster.main.spawn(["bash", "-c", &contender::lsyncd_living(cluster, dir, delay)]);
            eventually("lsyncd to be ready", LIMIT, || {
                let log = String::from_utf8_lossy(&lsyncd.stdout()).into_owned();
                log.matches("finished").count() >= cluster.nodes.len()
            });
            let theirs = changes(&cluster.main, &nodes, count.min(60), path);
            theirs.print(&case, &format!("lsyncd, delay = {delay}"), Some(&ours));
            cluster.main.sh("pkill lsyncd; true").ok();
            drop(lsyncd);
        }
        cluster.main.sh(contender::xds_sync().script).ok();
    }
    let daemon = start(cluster);
    let others: Vec<&Host> = cluster.hosts().filter(|host| host.name != "mds1").collect();
    let recordings =
        changes(&cluster.nodes[0], &others, count, |n| format!("{RECORDINGS}/2026/call-{n}.wav"));
    recordings.print("a recording finished on a node, until on Main and 3 nodes", "xds-sync watch", None);
    stop(daemon);
}

/// What the daemon and an agent cost while nothing happens.
pub(crate) fn idle(cluster: &Cluster) {
    const SECONDS: u64 = 30;
    let daemon = start(cluster);
    std::thread::sleep(Duration::from_secs(3));
    let hosts = [("Main", &cluster.main), ("a node", &cluster.nodes[0])];
    let used = |host: &Host| -> f64 {
        let ticks = "cat $(pgrep -x xds-sync | sed 's|.*|/proc/&/stat|') | awk '{t+=$14+$15} END {print t}'";
        host.sh(ticks).ok().trim().parse::<f64>().unwrap_or(0.0) / 100.0
    };
    let before = hosts.map(|(_, host)| used(host));
    let wire = cluster.main.sh("cat /proc/net/dev | grep eth0").ok();
    std::thread::sleep(Duration::from_secs(SECONDS));
    let wire_after = cluster.main.sh("cat /proc/net/dev | grep eth0").ok();
    let packets = |line: &str| -> u64 {
        let fields: Vec<u64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        fields.get(1).unwrap_or(&0) + fields.get(9).unwrap_or(&0)
    };
    for ((name, host), before) in hosts.iter().zip(before) {
        let share = (used(host) - before) / SECONDS as f64 * 100.0;
        let memory = host.sh("grep -h VmRSS $(pgrep -x xds-sync | sed 's|.*|/proc/&/status|') | awk '{m+=$2} END {print m/1000}'");
        println!(
            "| idle, 4 nodes, 28,000 files, {name} | xds-sync watch | {share:.2} % of a core | | | {} MB | |",
            memory.ok().trim()
        );
    }
    println!(
        "| idle, packets on Main's wire in {SECONDS} s | xds-sync watch | {} | | | | |",
        packets(&wire_after) - packets(&wire)
    );
    stop(daemon);
}

/// 100,000 files removed at once, which the guard was told to let go.
pub(crate) fn removed(cluster: &Cluster) {
    let mut daemon = start(cluster);
    cluster.main.sh(format!("rm -rf {SOUNDS}/d*")).ok();
    let began = Instant::now();
    eventually("the guard to stop it", LIMIT, || {
        cluster.main.sh("xds-sync status | grep -q HALTED").success()
    });
    // Runs that saw a part of it had other plans, and other tokens.
    await_idle(cluster);
    cluster.main.sh("xds-sync sync --quiet --accept-deletes $(xds-sync status | grep -o 'accept-deletes [^ ]*' | cut -d' ' -f2)").ok();
    let left =
        || cluster.nodes[0].sh(format!("find {SOUNDS} -name 'f*.wav' -not -path '*/.xds-sync/*' | head -1"));
    eventually("all are gone", LIMIT, || left().text().trim().is_empty());
    let took = began.elapsed();
    await_idle(cluster);
    assert!(daemon.is_running(), "it is the same daemon");
    println!(
        "| 100,000 files removed, guard accepted | xds-sync watch | {:.1} s | | | {} / {} MB | |",
        took.as_secs_f64(),
        memory(&cluster.main, "VmHWM"),
        memory(&cluster.nodes[0], "VmHWM"),
    );
    stop(daemon);
}

/// What proc(5) says of the memory of a host's daemon or agent, in MB.
fn memory(host: &Host, what: &str) -> String {
    let process = "$(pgrep -o -x xds-sync | sed 's|.*|/proc/&/status|')";
    let said = host.sh(format!("grep -h {what} {process} | awk '{{print $2/1000}}'"));
    said.ok().trim().to_owned()
}

/// 10,000 files changed a minute, one node cut off meanwhile.
pub(crate) fn storm(cluster: &Cluster) {
    const MINUTES: usize = 3;
    let mut daemon = start(cluster);
    let (mut lags, mut resident) = (Vec::new(), Vec::new());
    let began = Instant::now();
    for second in 0..MINUTES * 60 {
        if second == 60 {
            cluster.cut("mds4");
        }
        let due = Duration::from_secs(second as u64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        let file = format!("{SOUNDS}/d$((RANDOM % 14))/f$((RANDOM % 1000)).wav");
        let storm =
            format!("for n in $(seq 167); do echo {second} >{file}; done; echo {second} >{SOUNDS}/stamp");
        cluster.main.sh(storm).ok();
        if second % 5 == 0 {
            lags.push(until_there(&cluster.nodes[..3], second));
        }
        if second % 20 == 0 {
            resident.push(memory(&cluster.main, "VmRSS"));
        }
    }
    cluster.mend("mds4");
    let back = Instant::now();
    until_there(&cluster.nodes[3..], MINUTES * 60 - 1);
    let back = back.elapsed();
    await_idle(cluster);
    assert!(daemon.is_running(), "it is the same daemon");
    for node in &cluster.nodes {
        cluster.main.tree(SOUNDS).assert_same(&node.tree(SOUNDS));
    }
    lags.sort();
    println!(
        "| 10,000 changes a minute for 3 minutes, one of 4 nodes cut off after the first | xds-sync watch | lag of the others {:.1} s, at most {:.1} s; the lost one in step after {:.1} s | | | {} MB | |",
        lags[lags.len() / 2].as_secs_f64(),
        lags.last().copied().unwrap_or_default().as_secs_f64(),
        back.as_secs_f64(),
        resident.join(", ")
    );
    stop(daemon);
}

/// How long it takes from now until this stamp, or a later one, is on all of these nodes.
fn until_there(nodes: &[Host], stamp: usize) -> Duration {
    let began = Instant::now();
    let path = format!("{SOUNDS}/stamp");
    for node in nodes {
        let has =
            || node.exists(&path) && node.read_text(&path).trim().parse().is_ok_and(|is: usize| is >= stamp);
        eventually("the stamp", LIMIT, has);
    }
    began.elapsed()
}

/// `sync` while the daemon lives; the script beside it.
pub(crate) fn beside(cluster: &Cluster, turns: impl FnOnce()) {
    let daemon = start(cluster);
    turns();
    stop(daemon);
}
