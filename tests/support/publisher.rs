//! Main's side of a store, made by hand: what a follower is tested against that must not depend on how Main publishes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ssh_key::private::Ed25519Keypair;
use ssh_key::{LineEnding, PrivateKey};
use xds_sync::model::{
    ConflictPolicy, DeletePolicy, Digest, Direction, Entry, File, MaxLoss, Meta, Owner, RelPathBuf, Tree,
};
use xds_sync::store::blobs::pack;
use xds_sync::store::group::{self, Group, HeadNode};
use xds_sync::store::head::{Head, HeadDirectory};
use xds_sync::store::lease::{Alive, Lease};
use xds_sync::store::names::{self, Area};
use xds_sync::store::tree::{Part, Parts};
use xds_sync::store::{FORMAT, Objects, Sha256, StoreSpec, envelope, open, tree};

const CLUSTER: &str = "01JCLUSTER";
/// The mtime of everything that Main has, in seconds.
pub(crate) const MTIME: u64 = 1_700_000_000;

/// A store, and what Main has; a node's two roots, `moh` (pushed) and `rec` (both ways), beside it.
pub(crate) struct Publisher {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) objects: Arc<dyn Objects>,
    seq: u64,
    prev: Option<Sha256>,
    /// Directory → path → content, as Main has them.
    pub(crate) main: BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>,
    /// The last upload of the node that is acknowledged.
    pub(crate) taken: u64,
    /// How many other nodes follow, `other1` and so on, each with the key of this one.
    pub(crate) others: usize,
    /// For how long a publication is believed.
    pub(crate) expires: Duration,
    /// Reloads of the pushed directory.
    pub(crate) reload: Vec<String>,
}

fn time(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    jiff::Timestamp::from_second(i64::try_from(seconds).unwrap()).unwrap().to_string()
}

impl Publisher {
    pub(crate) fn new() -> Publisher {
        let dir = tempfile::tempdir().unwrap();
        for name in ["store", "moh", "rec", "state"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        for (name, seed) in [("main", 1), ("node", 2)] {
            let key = PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]));
            let text = key.to_openssh(LineEnding::LF).unwrap();
            fs::write(dir.path().join(name), text.as_bytes()).unwrap();
            let public = key.public_key().to_openssh().unwrap();
            fs::write(dir.path().join(format!("{name}.pub")), format!("{public}\n")).unwrap();
        }
        let objects = open(&spec_of(dir.path())).unwrap();
        let site = Publisher {
            dir,
            objects,
            seq: 0,
            prev: None,
            main: BTreeMap::from([("moh", BTreeMap::new()), ("rec", BTreeMap::new())]),
            taken: 0,
            others: 0,
            expires: Duration::from_secs(3600),
            reload: Vec::new(),
        };
        let lease = Lease {
            v: FORMAT,
            cluster: CLUSTER.to_owned(),
            epoch: 1,
            main: "main".to_owned(),
            main_id: "01MAIN".to_owned(),
            time: time(SystemTime::now()),
            prev_seq: 0,
        };
        site.objects.create(&names::lease(1), &envelope::seal(&site.path("main"), &lease).unwrap()).unwrap();
        let mut site = site;
        site.set("moh", "a.wav", b"one");
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn set(&mut self, directory: &'static str, path: &str, content: &[u8]) {
        self.main.get_mut(directory).unwrap().insert(path.to_owned(), content.to_vec());
    }

    fn directory(&self, name: &'static str) -> HeadDirectory {
        let (mut entries, mut parts) = (Vec::new(), Parts::default());
        for (path, content) in &self.main[name] {
            let (part, bytes) = pack(content);
            let Part::Stored { object, .. } = part else { unreachable!() };
            self.objects.create(&Area::main().object(&object), &bytes).unwrap();
            let digest = Digest(blake3::hash(content).into());
            parts.insert(digest, vec![part]);
            let meta = Meta { mode: 0o644, owner: Owner::default() };
            let file = File {
                size: content.len() as u64,
                mtime: i64::try_from(MTIME).unwrap() * 1_000_000_000,
                digest,
                meta,
            };
            entries.push((RelPathBuf::new(path.clone().into_bytes()).unwrap(), Entry::File(file)));
        }
        let tree: Tree = entries.into_iter().collect();
        let object = tree::encode(&tree, &parts).unwrap();
        let hash = Sha256::of(&object);
        self.objects.create(&Area::main().object(&hash), &object).unwrap();
        HeadDirectory {
            name: name.to_owned(),
            path: self.path(name).display().to_string(),
            direction: if name == "rec" { Direction::Both } else { Direction::Push },
            labels: Vec::new(),
            delete: DeletePolicy::Propagate,
            conflict: ConflictPolicy::Main,
            max_delete: MaxLoss::Percent(50),
            max_change: MaxLoss::Percent(50),
            max_add: None,
            owner: None,
            exclude: Vec::new(),
            accepted: Vec::new(),
            settle_ms: 0,
            reload: if name == "moh" { self.reload.clone() } else { Vec::new() },
            root: None,
            tree: hash,
            tree_len: object.len() as u64,
            files: tree.len() as u64,
            bytes: 0,
        }
    }

    /// Puts the nodes into the store.
    fn put(&self, nodes: &[HeadNode]) -> Vec<Group> {
        let packed = group::pack(nodes).unwrap();
        let put = |packed: &group::Packed| {
            self.objects.create(&packed.group.name(), packed.bytes()).unwrap();
            packed.group
        };
        packed.iter().map(put).collect()
    }

    pub(crate) fn publish(&mut self) {
        self.seq += 1;
        let key = fs::read_to_string(self.path("node.pub")).unwrap();
        let node = |name: String| HeadNode {
            name,
            key: key.trim().to_owned(),
            labels: Vec::new(),
            paths: BTreeMap::new(),
            taken: self.taken,
        };
        let others = (1..=self.others).map(|number| node(format!("other{number}")));
        let head = Head {
            v: FORMAT,
            cluster: CLUSTER.to_owned(),
            epoch: 1,
            seq: self.seq,
            prev: self.prev,
            main: "main".to_owned(),
            time: time(SystemTime::now()),
            agent: "0.1.0".to_owned(),
            min_agent: "0.1.0".to_owned(),
            reason: "publish".to_owned(),
            groups: self.put(&others.chain([node("mds1".to_owned())]).collect::<Vec<HeadNode>>()),
            directories: vec![self.directory("moh"), self.directory("rec")],
        };
        let object = envelope::seal(&self.path("main"), &head).unwrap();
        self.prev = Some(Sha256::of(&object));
        self.objects.create(&names::head(self.seq), &object).unwrap();
        self.renew();
    }

    pub(crate) fn renew(&self) {
        let alive = Alive {
            v: FORMAT,
            cluster: CLUSTER.to_owned(),
            epoch: 1,
            seq: self.seq,
            head: self.prev.unwrap(),
            main: "main".to_owned(),
            issued: time(SystemTime::now()),
            expires: time(SystemTime::now() + self.expires),
            released: false,
        };
        self.objects.put(&names::alive(1), &envelope::seal(&self.path("main"), &alive).unwrap()).unwrap();
    }

    pub(crate) fn has(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.path(path)).ok()
    }

    /// What the node has in its two directories.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        for directory in ["moh", "rec"] {
            for entry in fs::read_dir(self.path(directory)).unwrap().flatten() {
                if entry.file_name() != ".xds-sync" {
                    let name = format!("{directory}/{}", entry.file_name().to_string_lossy());
                    all.insert(name, fs::read(entry.path()).unwrap());
                }
            }
        }
        all
    }

    pub(crate) fn record(&self, name: &str, content: &str) {
        fs::write(self.path("rec").join(name), content).unwrap();
    }

    /// Copies a directory beside the others.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        let done = std::process::Command::new("cp").arg("-a").args([self.path(from), self.path(to)]).status();
        assert!(done.unwrap().success());
    }
}

pub(crate) fn spec_of(dir: &Path) -> StoreSpec {
    StoreSpec { url: format!("file://{}/store", dir.display()), ..StoreSpec::default() }
}
