//! What a command took: time, processor, memory, wire.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::contender::Contender;
use crate::support::{Cluster, Host};

/// What one run took.
#[derive(Clone, Copy, Default)]
pub(crate) struct Taken {
    pub(crate) time: Duration,
    /// Processor seconds of the whole machine: both ends are on it, and nothing else should be.
    pub(crate) processor: f64,
    /// Bytes on the wire of the host that runs it, both ways.
    pub(crate) wire: u64,
}

/// Most memory of any process, in KiB; and how long it all took, which is somewhat more than where nobody watches.
#[derive(Clone, Copy, Default)]
pub(crate) struct Peak {
    pub(crate) main: u64,
    pub(crate) node: u64,
    pub(crate) time: Duration,
}

pub(crate) fn run(cluster: &Cluster, contender: &Contender) -> Taken {
    run_on(&cluster.main, contender)
}

/// The same on any host, whose wire is looked at.
pub(crate) fn run_on(host: &Host, contender: &Contender) -> Taken {
    let (wire, processor) = (wire_of(host), processor());
    let output = host.sh(&contender.script);
    let taken =
        Taken { time: output.took, processor: self::processor() - processor, wire: wire_of(host) - wire };
    assert!(output.success(), "{}: {output:?}", contender.name);
    taken
}

/// Runs it once more, and watches the memory of its processes: that costs time, which is not measured here.
pub(crate) fn peak(cluster: &Cluster, contender: &Contender) -> Peak {
    let began = Instant::now();
    let mut main = cluster.main.spawn(["bash", "-c", &contender.script]);
    let mut of_processes: HashMap<u32, (bool, u64)> = HashMap::new();
    let spaces: Vec<_> = cluster.hosts().map(|host| (host.name == "main", space(host.pid()))).collect();
    while main.is_running() {
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(id) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let of = space(id);
            let Some((is_main, _)) = spaces.iter().find(|(_, space)| of.is_some() && *space == of) else {
                continue;
            };
            let most = most_memory(&process.path());
            let known = of_processes.entry(id).or_insert((*is_main, 0));
            known.1 = known.1.max(most);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    main.wait().ok();
    let time = began.elapsed();
    let most = |on_main: bool| {
        of_processes
            .values()
            .filter(|(is_main, _)| *is_main == on_main)
            .map(|(_, most)| *most)
            .max()
            .unwrap_or(0)
    };
    Peak { main: most(true), node: most(false), time }
}

fn space(process: u32) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/pid")).ok()
}

/// proc(5): the most resident memory so far.
fn most_memory(process: &Path) -> u64 {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

/// proc(5), /proc/stat: hundredths of a second that all processors were not idle.
fn processor() -> f64 {
    let stat = fs::read_to_string("/proc/stat").expect("/proc/stat");
    let fields: Vec<u64> =
        stat.lines().next().unwrap_or("").split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user, nice, system, irq, softirq
    [0, 1, 2, 5, 6].iter().filter_map(|&at| fields.get(at)).sum::<u64>() as f64 / 100.0
}

/// proc(5), /proc/net/dev: bytes received and sent, but for the loopback's.
fn wire_of(host: &Host) -> u64 {
    let of_line = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        (name.trim() != "lo").then(|| counters.first().unwrap_or(&0) + counters.get(8).unwrap_or(&0))
    };
    host.sh("cat /proc/net/dev").ok().lines().filter_map(of_line).sum()
}

pub(crate) fn median(mut values: Vec<Taken>) -> Taken {
    let middle = values.len() / 2;
    values.sort_by_key(|taken| taken.time);
    let time = values[middle].time;
    values.sort_by(|a, b| a.processor.total_cmp(&b.processor));
    let processor = values[middle].processor;
    values.sort_by_key(|taken| taken.wire);
    Taken { time, processor, wire: values[middle].wire }
}
