//! Nodes that have handed in their key at the hub, and wait until an administrator of Main approves them.
//!
//! Each is a small file below the hub's state. Anybody may ask, so the number of files, their length and their age have bounds,
//! and nothing in them is believed: what is approved is a key whose fingerprint somebody has compared. The hub writes them as a
//! user of its own, root reads them: step by step on descriptors, without following a link, and only what that user has made.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use ssh_key::PublicKey;

use super::join::check_kind;
use crate::config::is_name;
use crate::durable::{self, Options};
use crate::model::{read_rfc3339, rfc3339};

/// The state of the hub that the package installs.
pub(crate) const HUB_STATE: &str = "/var/lib/xds-sync-hub";
/// Their place in a hub's state directory.
const DIRS: [&str; 2] = ["hub", "waiting"];
/// As many may wait: more than join on one day, and few enough to be looked through.
const MOST: usize = 32;
/// As many from one address, or one IPv6 network: one stranger cannot take the places of all.
const MOST_OF_CLIENT: usize = 8;
/// Who was not approved within this time asks again.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Most bytes of a key as it is handed in: one of RSA with 8192 bits has half of it.
pub(crate) const MAX_KEY: usize = 3 * 1024;
/// Most bytes of a file.
const MAX_FILE: u64 = 4 * 1024;
/// Most names in the directory that are looked at: those that wait, and what a crash has left.
const MAX_NAMES: usize = 4 * MOST;

/// A node that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// The name that it wants to have.
    pub(crate) name: String,
    /// What it signs with.
    pub(crate) key: PublicKey,
    /// The address that it was handed in from.
    pub(crate) from: IpAddr,
    /// When, in RFC 3339.
    pub(crate) since: String,
}

/// How one lies on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    key: String,
    from: IpAddr,
    since: String,
}

/// What became of a key that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HandedIn {
    /// It waits.
    New,
    /// It waited already.
    Known,
    /// Another key waits under this name.
    Taken,
    /// As many wait as may, in all or of this client.
    Full,
}

/// Where nodes wait, as the hub sees it.
pub(crate) struct WaitingRoom {
    state: PathBuf,
    turn: Mutex<()>,
}

impl WaitingRoom {
    pub(crate) fn in_state(state: &Path) -> WaitingRoom {
        WaitingRoom { state: state.to_owned(), turn: Mutex::default() }
    }

    /// Lets a node wait. The name is a node's, and the client is the network that the request came from.
    pub(crate) fn hand_in(
        &self,
        name: &str,
        key: &PublicKey,
        client: IpAddr,
        now: SystemTime,
    ) -> anyhow::Result<HandedIn> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let dir: PathBuf = self.state.join(DIRS.iter().collect::<PathBuf>());
        durable::make_dir(&dir, 0o700).with_context(|| format!("making {}", dir.display()))?;
        let found = Found::in_state(&self.state)?.unwrap_or_default();
        let (waiting, old): (Vec<Waiting>, Vec<Waiting>) =
            found.waiting.into_iter().partition(|one| is_fresh(one, now));
        let old = old.into_iter().map(|one| one.name);
        for name in old.chain(found.strange) {
            remove(&self.state, &name)?;
        }
        if let Some(known) = waiting.iter().find(|known| known.name == name) {
            let is_same = known.key.key_data() == key.key_data();
            return Ok(if is_same { HandedIn::Known } else { HandedIn::Taken });
        }
        let of_client = waiting.iter().filter(|known| known.from == client).count();
        if waiting.len() >= MOST || of_client >= MOST_OF_CLIENT {
            return Ok(HandedIn::Full);
        }
        let record = Record { key: plain(key)?, from: client, since: rfc3339(now) };
        let path = dir.join(name);
        durable::create(&path, &serde_json::to_vec(&record)?, Options::PRIVATE)
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(HandedIn::New)
    }
}

/// Reads a key as it is handed in: one line, of a safe algorithm.
pub(crate) fn read_key(text: &[u8]) -> anyhow::Result<PublicKey> {
    let line = std::str::from_utf8(text).context("it is no text")?.trim();
    let key = PublicKey::from_openssh(line).context("it is no public key")?;
    check_kind(&key)?;
    Ok(key)
}

/// A key in one line, without the comment.
pub(crate) fn plain(key: &PublicKey) -> anyhow::Result<String> {
    PublicKey::from(key.key_data().clone()).to_openssh().context("writing a public key as text")
}

fn is_fresh(waiting: &Waiting, now: SystemTime) -> bool {
    let Some(since) = read_rfc3339(&waiting.since) else { return false };
    // A clock that was set back makes none of them last for ever.
    let age = now.duration_since(since).or_else(|_| since.duration_since(now)).unwrap_or_default();
    age < LONGEST
}

/// Those that wait at a hub with this state, by name, and what else lies there; as root reads it, who trusts nothing there.
pub(crate) fn waiting(state: &Path, now: SystemTime) -> anyhow::Result<(Vec<Waiting>, Vec<String>)> {
    let Found { mut waiting, strange } = Found::in_state(state)?.unwrap_or_default();
    waiting.retain(|one| is_fresh(one, now));
    waiting.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((waiting, strange))
}

/// Takes a node out of those that wait; whether it was there.
pub(crate) fn remove(state: &Path, name: &str) -> anyhow::Result<bool> {
    let Some(dir) = open_room(state)? else { return Ok(false) };
    match unlinkat(&dir, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        // A directory of somebody else's making is nothing that waits.
        Err(Errno::ISDIR | Errno::PERM) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("removing {name} below {}", state.display())),
    }
}

#[derive(Default)]
struct Found {
    waiting: Vec<Waiting>,
    /// Names of what the hub has not written.
    strange: Vec<String>,
}

impl Found {
    fn in_state(state: &Path) -> anyhow::Result<Option<Found>> {
        let Some(dir) = open_room(state)? else { return Ok(None) };
        let reading = || format!("reading {}/{}", state.display(), DIRS.join("/"));
        let owner =
            File::from(dir.try_clone().with_context(reading)?).metadata().with_context(reading)?.uid();
        let mut found = Found::default();
        for (index, entry) in Dir::read_from(&dir).with_context(reading)?.enumerate() {
            if index > MAX_NAMES {
                bail!("{}: there is more than a hub writes; look at it, and empty it", reading());
            }
            let entry = entry.with_context(reading)?;
            // Names with a dot in front are being written.
            let Some(name) = Some(entry.file_name()).filter(|name| !name.to_bytes().starts_with(b".")) else {
                continue;
            };
            match read(&dir, name, owner) {
                Some(waiting) => found.waiting.push(waiting),
                None => found.strange.push(name.to_string_lossy().into_owned()),
            }
        }
        Ok(Some(found))
    }
}

/// The directory in which nodes wait; `None`: nobody has asked yet. The hub's user owns what is below `state`, and may put
/// anything there.
fn open_room(state: &Path) -> anyhow::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = match rustix::fs::open(state, flags, Mode::empty()) {
        Ok(dir) => dir,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("opening {}", state.display())),
    };
    for name in DIRS {
        dir = match openat(&dir, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NOTDIR) => bail!(
                "{name} below {} is no directory: a hub makes one, so somebody has exchanged it; remove it",
                state.display()
            ),
            Err(error) => {
                return Err(error).with_context(|| format!("opening {name} below {}", state.display()));
            }
        };
    }
    Ok(Some(dir))
}

/// One that waits; `None`: it is not what a hub writes.
fn read(dir: &OwnedFd, name: &CStr, owner: u32) -> Option<Waiting> {
    // A FIFO has nobody wait.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(dir, name, flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok()?;
    let is_hubs = metadata.file_type().is_file() && metadata.uid() == owner && metadata.nlink() == 1;
    if !is_hubs || metadata.len() > MAX_FILE {
        return None;
    }
    let mut content = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut content).ok()?;
    let Record { key, from, since } = serde_json::from_slice(&content).ok()?;
    let name = name.to_str().ok().filter(|name| !name.is_empty() && is_name(name))?.to_owned();
    let key = read_key(key.as_bytes()).ok()?;
    // As it was written: it is shown.
    let since = rfc3339(read_rfc3339(&since)?);
    Some(Waiting { name, key, from, since })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::UNIX_EPOCH;

    use ssh_key::PrivateKey;
    use ssh_key::private::Ed25519Keypair;

    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn key(seed: u8) -> PublicKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32])).public_key().clone()
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    struct Hub {
        dir: tempfile::TempDir,
        room: WaitingRoom,
    }

    impl Hub {
        fn new() -> Hub {
            let dir = tempfile::tempdir().unwrap();
            let room = WaitingRoom::in_state(dir.path());
            Hub { dir, room }
        }

        fn hand_in(&self, name: &str, seed: u8, from: u8, seconds: u64) -> HandedIn {
            self.room.hand_in(name, &key(seed), address(from), at(seconds)).unwrap()
        }

        fn names(&self, seconds: u64) -> Vec<String> {
            waiting(self.dir.path(), at(seconds)).unwrap().0.into_iter().map(|one| one.name).collect()
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join("hub/waiting").join(name)
        }
    }

    #[test]
    fn who_comes_first_waits_and_is_read_as_it_was_handed_in() {
        let hub = Hub::new();
        assert_eq!(waiting(hub.dir.path(), at(NOW)).unwrap(), (vec![], vec![]), "nobody has asked");
        assert_eq!(hub.hand_in("mds1", 1, 1, NOW), HandedIn::New);
        assert_eq!(hub.hand_in("mds1", 1, 2, NOW), HandedIn::Known);
        assert_eq!(hub.hand_in("mds1", 2, 1, NOW), HandedIn::Taken);
        let since = "2023-11-14T22:13:20Z".to_owned();
        let expected = Waiting { name: "mds1".to_owned(), key: key(1), from: address(1), since };
        let (found, strange) = waiting(hub.dir.path(), at(NOW)).unwrap();
        assert_eq!((found, strange), (vec![expected], vec![]));
        assert_eq!(fs::metadata(hub.path("mds1")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(remove(hub.dir.path(), "mds1").unwrap() && !remove(hub.dir.path(), "mds1").unwrap());
        assert_eq!(hub.hand_in("mds1", 2, 1, NOW), HandedIn::New, "after a rejection the right one may ask");
    }

    #[test]
    fn no_more_wait_than_may_of_one_client_and_in_all() {
        let hub = Hub::new();
        let (mut full, mut new) = (0, 0);
        for number in 0..100_u8 {
            match hub.hand_in(&format!("n{number}"), number, number / 20, NOW) {
                HandedIn::New => new += 1,
                HandedIn::Full => full += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((new, full), (MOST, 100 - MOST));
        assert_eq!(hub.names(NOW).len(), MOST);
        assert_eq!(hub.names(NOW).iter().filter(|name| name.len() == 2 || name.starts_with("n1")).count(), 8);
        // A day later there is room for others, and nothing of these is left.
        let later = NOW + LONGEST.as_secs();
        assert_eq!(hub.names(later), Vec::<String>::new());
        assert_eq!(hub.hand_in("late", 1, 1, later), HandedIn::New);
        assert_eq!(fs::read_dir(hub.path("")).unwrap().count(), 1);
        // So it is when the clock was set back.
        assert_eq!(hub.hand_in("early", 1, 1, NOW - 10), HandedIn::New);
        assert_eq!(hub.names(NOW), ["early"]);
    }

    #[test]
    fn what_a_hub_does_not_write_is_not_read() {
        let hub = Hub::new();
        hub.hand_in("good", 1, 1, NOW);
        let secret = hub.dir.path().join("secret");
        fs::copy(hub.path("good"), &secret).unwrap();
        symlink(&secret, hub.path("link")).unwrap();
        fs::hard_link(&secret, hub.path("hard")).unwrap();
        fs::create_dir(hub.path("dir")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, hub.path("fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0)
            .unwrap();
        fs::copy(&secret, hub.path("of another user")).unwrap();
        std::os::unix::fs::chown(hub.path("of another user"), Some(12345), None).unwrap();
        fs::copy(&secret, hub.path("-no name")).unwrap();
        let text = fs::read_to_string(&secret).unwrap();
        fs::write(hub.path("long"), text.clone() + &" ".repeat(5000)).unwrap();
        fs::write(hub.path("damaged"), &text[1..]).unwrap();
        fs::write(hub.path("more"), text.replacen('{', "{\"more\":1,", 1)).unwrap();
        fs::write(hub.path("weak"), text.replace("ssh-ed25519", "ssh-dss")).unwrap();
        let (found, mut strange) = waiting(hub.dir.path(), at(NOW)).unwrap();
        strange.sort();
        assert_eq!(found.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["good"]);
        let expected =
            ["-no name", "damaged", "dir", "fifo", "hard", "link", "long", "more", "of another user", "weak"];
        assert_eq!(strange, expected);
        // The hub clears that away as far as it can, and goes on.
        assert_eq!(hub.hand_in("next", 2, 1, NOW), HandedIn::New);
        assert_eq!(waiting(hub.dir.path(), at(NOW)).unwrap().1, ["dir"]);
        assert!(secret.exists());
    }

    #[test]
    fn no_link_leads_elsewhere() {
        for place in ["hub", "hub/waiting"] {
            let hub = Hub::new();
            hub.hand_in("good", 1, 1, NOW);
            let (at_place, elsewhere) = (hub.dir.path().join(place), hub.dir.path().join("elsewhere"));
            fs::rename(&at_place, &elsewhere).unwrap();
            symlink(&elsewhere, &at_place).unwrap();
            for result in [
                waiting(hub.dir.path(), at(NOW)).map(drop),
                remove(hub.dir.path(), "good").map(drop),
                hub.room.hand_in("mds1", &key(2), address(1), at(NOW)).map(drop),
            ] {
                assert!(result.unwrap_err().to_string().contains("has exchanged it"), "{place}");
            }
        }
        let hub = Hub::new();
        hub.hand_in("good", 1, 1, NOW);
        (0..MAX_NAMES + 10).for_each(|number| fs::write(hub.path(&format!("{number}")), "x").unwrap());
        assert!(waiting(hub.dir.path(), at(NOW)).unwrap_err().to_string().contains("more than a hub writes"));
    }

    #[test]
    fn only_keys_of_safe_kinds_are_taken() {
        let good = plain(&key(1)).unwrap();
        assert_eq!(read_key(format!("{good} comment\n").as_bytes()).unwrap().key_data(), key(1).key_data());
        for bad in ["", "ssh-ed25519", "\u{0}", "ssh-dss AAAA", &good[..40]] {
            assert!(read_key(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
