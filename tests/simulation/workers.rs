//! Seeds, spread over the processors. Fail points are a process's own, so each worker is a process.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use xds_sync::fault::Point;

use super::history::History;
use super::script::Script;
use super::watch;

/// How many histories a test run plays.
const SEEDS: u64 = 1500;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

pub fn run() {
    if let Some(seed) = number("XDS_SIM_SEED") {
        watch::install();
        one(seed);
    } else if let (Some(first), Some(every)) = (number("XDS_SIM_FIRST"), number("XDS_SIM_EVERY")) {
        watch::install();
        worker(first, every, number("XDS_SIM_SEEDS").unwrap_or(SEEDS));
    } else {
        all();
    }
}

/// Plays a history in a process of its own, as the test whose name this thread has.
pub fn alone(script: &Script) {
    if env::var_os("XDS_SIM_ALONE").is_some() {
        watch::install();
        if let Err(wrong) = play(script) {
            panic!("{wrong}");
        }
        return;
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let played = Command::new(env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env("XDS_SIM_ALONE", "yes")
        .output()
        .unwrap();
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
}

fn play(script: &Script) -> Result<(), String> {
    let stands = History::new(script, false).play(script)?;
    if !script.is_about_order() {
        return Ok(());
    }
    // On a machine that is busy elsewhere a node may come so late that it has a round of its own: then, and only
    // then, it is judged as if it had been away.
    let same = (0..3).any(|_| History::new(script, true).play(script).is_ok_and(|again| again == stands));
    if same { Ok(()) } else { Err("with nodes in the opposite order something else comes of it".to_owned()) }
}

/// Plays one seed, and looks for the shortest history that fails like it.
fn one(seed: u64) {
    let mut script = Script::new(seed);
    let Err(mut wrong) = play(&script) else {
        println!("seed {seed} holds");
        return;
    };
    // Threads of a run may take turns differently the next time.
    let fails = |script: &Script| (0..3).find_map(|_| play(script).err());
    'shorter: loop {
        for candidate in script.shorter() {
            if let Some(again) = fails(&candidate) {
                (script, wrong) = (candidate, again);
                continue 'shorter;
            }
        }
        break;
    }
    eprintln!("{} nodes, {:?}", script.nodes, script.setup);
    for (at, step) in script.steps.iter().enumerate() {
        eprintln!("{at:3} {step:?}");
    }
    panic!("seed {seed} fails at {wrong}");
}

fn worker(first: u64, every: u64, seeds: u64) {
    let mut seed = first;
    while seed < seeds {
        eprintln!("playing {seed}");
        if let Err(wrong) = play(&Script::new(seed)) {
            eprintln!("failed {seed} {}", wrong.replace('\n', "\\n"));
        }
        seed += every;
    }
    for ((on_main, point), count) in watch::met() {
        eprintln!("met {on_main} {point} {count}");
    }
}

fn all() {
    let begun = Instant::now();
    // A history is a sequence of waits for other threads: some more than there are processors fill these.
    let workers = 2 * std::thread::available_parallelism().map_or(2, usize::from);
    let children: Vec<Child> = (0..workers)
        .map(|first| {
            Command::new(env::current_exe().unwrap())
                .args(["--exact", "nothing_is_lost_in_any_history", "--nocapture"])
                .env("XDS_SIM_FIRST", first.to_string())
                .env("XDS_SIM_EVERY", workers.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut failed = Vec::new();
    let mut met: BTreeMap<String, u64> = BTreeMap::new();
    for mut child in children {
        let mut playing = String::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(seed) = line.strip_prefix("playing ") {
                playing = seed.to_owned();
            } else if let Some(wrong) = line.strip_prefix("failed ") {
                failed.push(wrong.replace("\\n", "\n"));
            } else if let Some(point) = line.strip_prefix("met ") {
                let words: Vec<&str> = point.split(' ').collect();
                *met.entry(words[1].to_owned()).or_default() += words[2].parse::<u64>().unwrap();
            }
        }
        if !child.wait().unwrap().success() {
            failed.push(format!("{playing} broke down"));
        }
    }
    println!("{:?} for {} seeds", begun.elapsed(), number("XDS_SIM_SEEDS").unwrap_or(SEEDS));
    for wrong in failed.iter().take(20) {
        eprintln!("seed {wrong}");
    }
    assert!(
        failed.is_empty(),
        "{} seeds fail; see one with XDS_SIM_SEED=… cargo test --test simulation -- --nocapture",
        failed.len()
    );
    let never: Vec<&str> =
        Point::ALL.iter().map(|point| point.name()).filter(|name| !met.contains_key(*name)).collect();
    assert!(number("XDS_SIM_SEEDS").is_some() || never.is_empty(), "no history comes to {never:?}");
}
