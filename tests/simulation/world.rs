//! A cluster on this machine's memory: hosts are directories, and time passes when a script says so.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use xds_sync::config::{self, Config, Sources};
use xds_sync::model::{ReloadOutcome, ReloadState};
use xds_sync::node::{LocalOptions, Refusal};
use xds_sync::reload::ReloadRequest;
use xds_sync::snapshot::Clock;

use super::disk::{self, Listing};
use super::script::{BOTH, Op, PUSH, Script, Setting, Setup};

/// Time that only a script moves.
#[derive(Clone)]
pub struct VirtualClock(Arc<AtomicU64>);

impl VirtualClock {
    fn new() -> VirtualClock {
        // A little ahead of the machine, whose time the kernel gives to what changes (ctime).
        let now = SystemTime::now() + Duration::from_secs(60);
        let millis = now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        VirtualClock(Arc::new(AtomicU64::new(u64::try_from(millis).unwrap())))
    }

    pub fn read(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.millis())
    }

    pub fn millis(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn advance(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> SystemTime {
        self.read()
    }

    fn sleep(&self, duration: Duration) {
        self.advance(duration + Duration::from_millis(1));
    }
}

/// ULIDs of virtual time, in the order in which they are asked for.
#[derive(Clone)]
pub struct Ids(VirtualClock, Arc<AtomicU64>);

impl Ids {
    pub fn next(&self) -> String {
        let count = self.1.fetch_add(1, Ordering::Relaxed);
        ulid::Ulid::from_parts(self.0.millis(), count.into()).to_string()
    }
}

/// What each node's Asterisk has loaded.
pub type Loaded = Arc<Mutex<BTreeMap<usize, BTreeMap<String, disk::Thing>>>>;

pub struct World {
    _dir: tempfile::TempDir,
    pub base: PathBuf,
    pub nodes: usize,
    pub setup: Setup,
    pub config: Config,
    pub clock: VirtualClock,
    pub ids: Ids,
    pub loaded: Loaded,
}

impl World {
    pub fn new(script: &Script) -> World {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let base = dir.path().to_owned();
        let setup = script.setup.clone();
        let config = configure(&base, script.nodes, &setup);
        let clock = VirtualClock::new();
        let ids = Ids(clock.clone(), Arc::default());
        let world =
            World { _dir: dir, base, nodes: script.nodes, setup, config, clock, ids, loaded: Arc::default() };
        for host in 0..=world.nodes {
            for dir in [PUSH, BOTH] {
                fs::create_dir_all(world.root(host, dir)).unwrap();
            }
        }
        world
    }

    pub fn root(&self, host: usize, dir: usize) -> PathBuf {
        root(&self.base, &self.setup, host, dir)
    }

    pub fn list(&self, host: usize, dir: usize) -> Listing {
        disk::list(&self.root(host, dir), self.setup.carved(dir))
    }

    /// Lets the administrator change the configuration.
    pub fn configure(&mut self, setting: Setting) {
        match setting {
            Setting::PushDelete(delete) => self.setup.push_delete = delete,
            Setting::BothDelete(delete) => self.setup.both_delete = delete,
            Setting::Recordings(configured) => self.setup.recordings = configured,
            Setting::BakExcluded(excluded) => self.setup.bak_excluded = excluded,
        }
        self.config = configure(&self.base, self.nodes, &self.setup);
    }

    /// Every host's directories.
    pub fn list_all(&self) -> BTreeMap<(usize, usize), Listing> {
        let places = |host| self.setup.directories().iter().map(move |dir| (host, *dir));
        (0..=self.nodes).flat_map(places).map(|(host, dir)| ((host, dir), self.list(host, dir))).collect()
    }

    pub fn state_dir(&self, host: usize) -> PathBuf {
        self.base.join(format!("h{host}/state"))
    }

    /// What a process on a host knows of its machine.
    pub fn local(&self, host: usize) -> LocalOptions {
        local(
            self.base.clone(),
            self.setup.clone(),
            self.clock.clone(),
            self.ids.clone(),
            Arc::clone(&self.loaded),
            host,
        )
    }

    pub fn edit(&self, host: usize, dir: usize, op: &Op) {
        edit(&self.root(host, dir), self.clock.read(), op);
    }
}

pub fn root(base: &Path, setup: &Setup, host: usize, dir: usize) -> PathBuf {
    match (dir, setup.nested) {
        (PUSH, _) => base.join(format!("h{host}/conf")),
        (_, true) => base.join(format!("h{host}/conf/rec")),
        (_, false) => base.join(format!("h{host}/rec")),
    }
}

pub fn local(
    base: PathBuf,
    setup: Setup,
    clock: VirtualClock,
    ids: Ids,
    loaded: Loaded,
    host: usize,
) -> LocalOptions {
    let root = root(&base, &setup, host, PUSH);
    let reload = move |request: &ReloadRequest| {
        let now = names_and_contents(&setup, &disk::list(&root, setup.carved(PUSH)));
        loaded.lock().unwrap().insert(host, now);
        ReloadOutcome { name: request.name.clone(), state: ReloadState::Done, detail: None }
    };
    LocalOptions {
        cache_dir: base.join(format!("h{host}/state/cache")),
        clock: Box::new(clock),
        new_id: Box::new(move || ids.next()),
        reload: Box::new(reload),
        replace_key: Box::new(|_| Err(Refusal::new("nobody asks"))),
        progress: Arc::default(),
        stop: Arc::default(),
        limits: Default::default(),
        watch_limits: Default::default(),
    }
}

/// What a reload depends on, of what is not excluded.
pub fn names_and_contents(setup: &Setup, listing: &Listing) -> BTreeMap<String, disk::Thing> {
    let carried =
        listing.iter().filter(|(path, seen)| !setup.is_excluded(path) && disk::is_carried(path, seen));
    carried.map(|(path, seen)| (path.clone(), seen.thing.clone())).collect()
}

fn configure(base: &Path, nodes: usize, setup: &Setup) -> Config {
    let rec = root(Path::new(""), setup, 0, BOTH);
    let exclude = if setup.bak_excluded { "[\"*.bak\"]" } else { "[]" };
    let text = format!(
        "[main]\nname = \"main\"\nhost = \"main\"\n\
         [sync]\nparallel = {}\ntimeout = \"20s\"\ntrash_keep = \"12h\"\nstate_dir = \"{base}/h0/state\"\n\
         [[directory]]\nname = \"conf\"\npath = \"{base}/h0/conf\"\ndelete = \"{}\"\nmax_delete = \"{max}\"\n\
         exclude = {exclude}\nreload = [\"dialplan\"]\nsettle = \"2s\"\n",
        setup.parallel,
        setup.push_delete,
        max = setup.max_delete,
        base = base.display(),
    );
    let recordings = format!(
        "[[directory]]\nname = \"rec\"\npath = \"{}/{}\"\ndirection = \"both\"\ndelete = \"{}\"\n\
         conflict = \"{}\"\nmax_delete = \"{}\"\nexclude = {exclude}\nsettle = \"2s\"\n",
        base.display(),
        rec.display(),
        setup.both_delete,
        setup.conflict,
        setup.max_delete,
    );
    let nodes: String = (1..=nodes)
        .map(|node| {
            let rec = format!(", rec = {:?}", root(base, setup, node, BOTH));
            format!(
                "[[node]]\nname = \"node{node}\"\naddress = \"node{node}\"\n\
                 paths = {{ conf = \"{}/h{node}/conf\"{} }}\n",
                base.display(),
                if setup.recordings { &rec } else { "" }
            )
        })
        .collect();
    let file = base.join("config.toml");
    let recordings = if setup.recordings { &*recordings } else { "" };
    fs::write(&file, text + recordings + &nodes).unwrap();
    let sources = Sources { file, home: "/root".into(), host_name: "main".to_owned(), ..Sources::default() };
    config::load(&sources).unwrap_or_else(|mistakes| panic!("{mistakes}")).config
}

/// What an administrator or a program does. What makes no sense is not done.
pub fn edit(root: &Path, now: SystemTime, op: &Op) {
    if !root.is_dir() {
        return;
    }
    match *op {
        Op::Write { path, content } => disk::write(root, path, content, now),
        Op::Delete { path } => disk::remove(&root.join(path)),
        Op::Rename { from, to } => {
            let inside = to.starts_with(&format!("{from}/")) || from.starts_with(&format!("{to}/"));
            if from != to && !inside && root.join(from).symlink_metadata().is_ok() {
                disk::clear(root, to);
                fs::create_dir_all(root.join(to).parent().unwrap()).unwrap();
                fs::rename(root.join(from), root.join(to)).unwrap();
            }
        }
        Op::Touch { path } => {
            let at = root.join(path);
            if at.symlink_metadata().is_ok_and(|found| found.is_file()) {
                disk::set_mtime(&at, now);
            }
        }
        Op::Chmod { path, mode } => {
            let at = root.join(path);
            if let Ok(found) = at.symlink_metadata()
                && !found.is_symlink()
            {
                disk::set_mode(&at, if found.is_dir() { mode | 0o700 } else { mode });
            }
        }
        Op::Link { path, target } => {
            disk::clear(root, path);
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            symlink(target, root.join(path)).unwrap();
        }
        Op::Fill { first } => {
            for number in first..first + 14 {
                disk::write(root, &format!("many/n{}", number - first), number, now);
            }
        }
        Op::Empty => {
            for entry in fs::read_dir(root).unwrap().flatten() {
                // The other directory is nobody's to delete with this one.
                if entry.file_name() != ".xds-sync" && entry.file_name() != "rec" {
                    disk::remove(&entry.path());
                }
            }
        }
    }
}
