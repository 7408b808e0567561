//! Many followers in this process, each with its own state, keys and roots, at one store: what each of them costs, and what
//! their number costs Main. Where there are more than some hundreds, some hundreds make passes, and the others have told once
//! how they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};
use xds_sync::follow::{Asked, Follower, Machine};
use xds_sync::store::names::Area;
use xds_sync::store::status::NodeStatus;
use xds_sync::store::{Asker, Created, FORMAT, Objects, StoreError, StoreSpec, envelope, open_for_node};
use xds_sync::sync::Silent;
use xds_sync::threads::side_by_side;

const COUNTS: [usize; 3] = [10, 500, 10_000];
/// Followers that make passes, at most.
const ALIVE: usize = 500;
/// Passes of each kind that are measured, at least.
const PASSES: usize = 300;
/// Publications that are measured.
const PUBLICATIONS: usize = 3;
const FILES: usize = 20;
const BYTES: usize = 1_000;
/// Followers at work at once.
const THREADS: usize = 4;

/// A store that counts what it is asked for.
struct Counted {
    store: Arc<dyn Objects>,
    requests: Arc<AtomicU64>,
}

impl Counted {
    fn counted(&self) -> &dyn Objects {
        self.requests.fetch_add(1, Ordering::Relaxed);
        &*self.store
    }
}

impl Objects for Counted {
    fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.counted().get(name, limit)
    }
    fn get_all(&self, wanted: &[(&str, u64)]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.counted().get_all(wanted)
    }
    fn at_once(&self) -> usize {
        self.store.at_once()
    }
    fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        self.counted().create(name, bytes)
    }
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.counted().put(name, bytes)
    }
    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.counted().list(prefix)
    }
    fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.counted().delete(name)
    }
    fn place(&self) -> &str {
        self.store.place()
    }
}

/// Main and its followers.
struct Site {
    dir: tempfile::TempDir,
    program: PathBuf,
    followers: Vec<Follower>,
    requests: Arc<AtomicU64>,
}

/// What something cost, for each of those who did it.
#[derive(Clone, Copy)]
struct Cost {
    time: f64,
    processor: f64,
    requests: f64,
}

fn new_id() -> String {
    ulid::Ulid::generate().to_string()
}

/// A pair of keys, the private one at `path`. Returns the public one.
fn key(path: &Path, seed: usize) -> String {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&(seed as u64).to_le_bytes());
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&bytes));
    fs::write(path, key.to_openssh(LineEnding::LF).expect("a key").as_bytes()).expect("a key");
    let public = key.public_key().to_openssh().expect("a key");
    fs::write(path.with_extension("pub"), &public).expect("a key");
    public
}

impl Site {
    fn new(program: &str, count: usize) -> Site {
        let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in tmpfs");
        let path = |name: &str| dir.path().join(name);
        for name in ["store", "home", "main", "nodes"] {
            fs::create_dir(path(name)).expect("a directory");
        }
        for number in 0..FILES {
            fs::write(path("main").join(number.to_string()), vec![number as u8; BYTES]).expect("a file");
        }
        key(&path("main_key"), 0);
        let shown = |name: &str| path(name).display().to_string();
        let mut config = format!(
            "[main]\nname = 'main'\n[sync]\nstate_dir = '{}'\n[ssh]\nidentity = '{}'\n[store]\nurl = 'file://{}'\n\
             [[directory]]\nname = 'moh'\npath = '{}'\nsettle = '0s'\n",
            shown("main_state"),
            shown("main_key"),
            shown("store"),
            shown("main"),
        );
        let requests = Arc::new(AtomicU64::new(0));
        let mut followers = Vec::new();
        for number in 1..=count {
            let (name, node) = (format!("mds{number}"), path("nodes").join(number.to_string()));
            fs::create_dir_all(node.join("moh")).expect("a directory");
            let public = key(&node.join("key"), number);
            let at = node.display();
            config += &format!(
                "[[node]]\nname = '{name}'\nvia = 'store'\nkey = '{public}'\npaths = {{ moh = '{at}/moh' }}\n"
            );
            if number > ALIVE {
                continue;
            }
            let text = format!(
                "roots = ['{at}/moh']\nstate_dir = '{at}/state'\n[store]\nurl = 'file://{}'\n[follow]\nname = '{name}'\n\
                 main_key = '{}'\nidentity = '{at}/key'\n",
                shown("store"),
                shown("main_key.pub")
            );
            fs::write(node.join("node.toml"), text).expect("a configuration");
            followers.push((node.join("node.toml"), counting(&requests)));
        }
        fs::write(path("config.toml"), config).expect("a configuration");
        let mut site = Site { dir, program: program.into(), followers: Vec::new(), requests };
        site.main(&["store", "init"]);
        site.main(&["publish"]);
        (ALIVE + 1..=count).for_each(|number| site.has_told(number));
        let opened = followers.into_iter().map(|(file, machine)| {
            Follower::open(&file, machine, Arc::new(Silent), Arc::default()).expect("a follower")
        });
        site.followers = opened.collect();
        site
    }

    /// Leaves the status of a follower that makes no pass.
    fn has_told(&self, number: usize) {
        let node = format!("mds{number}");
        let lease =
            fs::read_to_string(self.dir.path().join("store/v1/leases/0000000001.xds")).expect("a lease");
        let status = NodeStatus {
            v: FORMAT,
            cluster: lease
                .split('"')
                .skip_while(|word| *word != "cluster")
                .nth(2)
                .expect("a store")
                .to_owned(),
            node: node.clone(),
            time: "2026-01-02T03:04:05Z".to_owned(),
            agent: String::new(),
            state: "current".to_owned(),
            epoch: 1,
            seq: 1,
            uploaded: 0,
            error: None,
        };
        let key = self.dir.path().join(format!("nodes/{number}/key"));
        let area = Area::node(&node).expect("a name");
        let path = self.dir.path().join("store").join(area.status());
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, envelope::seal(&key, &status).expect("a status")).expect("a status");
    }

    fn main(&self, arguments: &[&str]) {
        let mut command = Command::new(&self.program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.dir.path().join("home"));
        command.env("XDS_SYNC_CONFIG", self.dir.path().join("config.toml")).arg("-q").args(arguments);
        let output = command.output().expect("xds-sync");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    /// Lets each follower make a pass, `times` times.
    fn pass(&self, times: usize) -> Cost {
        let requests = self.requests.load(Ordering::Relaxed);
        let (began, processor) = (Instant::now(), own_processor());
        for _ in 0..times {
            side_by_side(&self.followers, THREADS, |follower| {
                let passed = follower.once(&Asked::default()).expect("a pass");
                assert_eq!(passed.exit_code, 0, "{:?}", passed.report);
            });
        }
        let passes = (times * self.followers.len()) as f64;
        Cost {
            time: began.elapsed().as_secs_f64() / passes,
            processor: (own_processor() - processor).as_secs_f64() / passes,
            requests: (self.requests.load(Ordering::Relaxed) - requests) as f64 / passes,
        }
    }

    /// Changes a file and publishes that; then each follower makes a pass. What it cost Main, with the objects that it wrote,
    /// and what it cost each follower.
    fn publication(&self, number: usize) -> (Cost, Cost) {
        fs::write(self.dir.path().join("main/0"), format!("change {number}")).expect("a file");
        (self.cost_of(&["publish"]), self.pass(1))
    }

    /// A publication in which one node has another label.
    fn labelled(&self) -> Cost {
        let path = self.dir.path().join("config.toml");
        let config = fs::read_to_string(&path).expect("a configuration");
        let labelled = config.replacen("name = 'mds7'\n", "name = 'mds7'\nlabels = ['paris']\n", 1);
        fs::write(&path, labelled).expect("a configuration");
        self.cost_of(&["publish"])
    }

    /// What a command costs Main, with the objects that it writes.
    fn cost_of(&self, arguments: &[&str]) -> Cost {
        let (began, processor, objects) = (Instant::now(), processor_of_children(), self.objects());
        self.main(arguments);
        Cost {
            time: began.elapsed().as_secs_f64(),
            processor: processor_of_children() - processor,
            requests: (self.objects() - objects) as f64,
        }
    }

    /// How many objects Main has in the store.
    fn objects(&self) -> usize {
        let all = ["v1/heads", "v1/o", "v1/leases", "v1/alive", "v1/trust", "v1/gc"];
        all.iter().map(|name| files_below(&self.dir.path().join("store").join(name))).sum()
    }
}

fn counting(requests: &Arc<AtomicU64>) -> Machine {
    let requests = Arc::clone(requests);
    let open = move |spec: &StoreSpec, asker: Asker<'_>| {
        let store = open_for_node(spec, asker)?;
        Ok(Arc::new(Counted { store, requests: Arc::clone(&requests) }) as Arc<dyn Objects>)
    };
    Machine { now: SystemTime::now, new_id, open: Arc::new(open) }
}

fn files_below(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let count = |path: PathBuf| if path.is_dir() { files_below(&path) } else { 1 };
    entries.map(|entry| count(entry.path())).sum()
}

/// What this process, with all its threads, has taken of the processor.
fn own_processor() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// proc(5), /proc/self/stat: what the processes have taken that this one has waited for.
fn processor_of_children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc/self/stat");
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: Vec<f64> = fields.skip(13).take(2).filter_map(|field| field.parse().ok()).collect();
    ticks.iter().sum::<f64>() / 100.0
}

fn mean(costs: &[Cost]) -> Cost {
    let mean = |of: fn(&Cost) -> f64| costs.iter().map(of).sum::<f64>() / costs.len() as f64;
    Cost { time: mean(|c| c.time), processor: mean(|c| c.processor), requests: mean(|c| c.requests) }
}

/// In rounds, so that what slows this machine down slows down all of them: each has its turn with each number of followers.
pub(crate) fn measure(program: &str, rounds: usize) {
    let cases = [
        "first pull of 20 files",
        "nothing new",
        "one file changed",
        "a publication of one file",
        "a publication of one label",
        "a run with nothing new",
    ];
    let mut costs = vec![vec![Vec::new(); COUNTS.len()]; cases.len()];
    for _ in 0..rounds {
        for (at, count) in COUNTS.into_iter().enumerate() {
            let site = Site::new(program, count);
            costs[0][at].push(site.pass(1));
            costs[1][at].push(site.pass((PASSES / count).max(1)));
            costs[4][at].push(site.labelled());
            costs[5][at].push(site.cost_of(&["sync"]));
            let (main, each): (Vec<Cost>, Vec<Cost>) =
                (0..PUBLICATIONS).map(|number| site.publication(number)).unzip();
            costs[2][at].push(mean(&each));
            costs[3][at].push(mean(&main));
        }
    }
    for (case, costs) in cases.iter().zip(costs) {
        let is_mains = case.contains("publication") || case.contains("run");
        let (who, what) = if is_mains { ("Main", "objects") } else { ("each", "requests") };
        let first = median(costs[0].clone());
        for (count, costs) in COUNTS.into_iter().zip(costs) {
            let Cost { time, processor, requests } = median(costs);
            println!(
                "| {count} followers, {case} | {who} | {:.1} ms | {:.2} | {:.1} ms, × {:.2} | | {requests:.1} {what} |",
                time * 1e3,
                time / first.time,
                processor * 1e3,
                processor / first.processor,
            );
        }
    }
}

fn median(mut costs: Vec<Cost>) -> Cost {
    let middle = costs.len() / 2;
    let mut of = |value: fn(&Cost) -> f64| {
        costs.sort_by(|a, b| value(a).total_cmp(&value(b)));
        value(&costs[middle])
    };
    Cost { time: of(|c| c.time), processor: of(|c| c.processor), requests: of(|c| c.requests) }
}
