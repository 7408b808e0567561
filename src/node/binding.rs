//! Which Main a node obeys: the one with the highest epoch that it has seen.

use std::fs;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::accept::Accept;
use super::epoch::Limit;
use super::error::{NodeError, NodeErrorKind};
use super::protocol::handshake::Hello;
use crate::durable::{self, Options, Points, sealed};
use crate::fault::Point;

/// The Main that a node obeys. Sealed on disk: a flipped bit in the epoch would let an older Main in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MainBinding {
    main: String,
    epoch: u64,
    name: String,
}

const NAME: &str = "main.json";
const POINTS: Points =
    Points { write: Some(Point::BindWrite), rename: Some(Point::BindRename), ..Points::NONE };

/// Fails if the node must not obey this Main, according to the binding below `state_dir`.
pub(super) fn check(state_dir: &Path, hello: &Hello) -> Result<(), NodeError> {
    let refused = |detail| Err(NodeError::new(NodeErrorKind::Refused, detail));
    let known = match read(state_dir) {
        Ok(Some(known)) => known,
        Ok(None) => return Ok(()),
        // Fail closed: an unreadable record refuses every Main.
        Err(error) => return refused(format!("the node does not know its Main: {error:#}")),
    };
    let MainBinding { name, epoch, .. } = &known;
    let detail = if hello.epoch < *epoch {
        format!(
            "the node obeys {name} since its {}, and this Main is of {}; {}",
            Limit::in_words(*epoch),
            Limit::in_words(hello.epoch),
            way_out(state_dir)
        )
    } else if hello.epoch == *epoch && hello.main != known.main {
        let another = if *name == hello.name { "another Main of the same name" } else { "another Main" };
        let epoch = Limit::in_words(*epoch);
        format!("the node obeys {another}, {name}, of {epoch}; {}", way_out(state_dir))
    } else {
        return Ok(());
    };
    Err(NodeError { epoch: Some(*epoch), ..NodeError::new(NodeErrorKind::Refused, detail) })
}

fn way_out(state_dir: &Path) -> String {
    format!(
        "if this is to be the Main, run `xds-sync init --takeover` on it; if that does not help, run `xds-sync leave` and \
         `xds-sync join` on the node, or remove {} there",
        state_dir.join(NAME).display()
    )
}

/// Fails if this Main's epoch is beyond the present by the node's clock, unless the node obeys it already.
pub(super) fn check_epoch(accept: &Accept, hello: &Hello) -> Result<(), NodeError> {
    if accept.max_epoch.allows(hello.epoch) {
        return Ok(());
    }
    // One that cannot be read was refused before.
    let known = read(&accept.state_dir).ok().flatten();
    if known.as_ref().is_some_and(|known| known.main == hello.main && known.epoch == hello.epoch) {
        return Ok(());
    }
    let detail = format!(
        "this Main is of {}, more than a day beyond the present by the node's clock: set the clocks of both right, and \
         run `xds-sync init --takeover` on Main",
        Limit::in_words(hello.epoch)
    );
    let epoch = Some(known.map_or(0, |known| known.epoch));
    Err(NodeError { epoch, ..NodeError::new(NodeErrorKind::Refused, detail) })
}

/// Checks, and binds the node to this Main.
pub(super) fn bind(state_dir: &Path, hello: &Hello) -> Result<(), NodeError> {
    check(state_dir, hello)?;
    let new = MainBinding { main: hello.main.clone(), epoch: hello.epoch, name: hello.name.clone() };
    if matches!(read(state_dir), Ok(Some(known)) if known == new) {
        return Ok(());
    }
    write(state_dir, &new).map_err(|error| {
        let detail = format!("the node cannot record its Main in {}: {error:#}", state_dir.display());
        NodeError::new(NodeErrorKind::Refused, detail)
    })?;
    let MainBinding { main, epoch, name } = new;
    log::info!("auth: bound: this node obeys main={name} id={main} epoch={epoch} from now on");
    Ok(())
}

/// The name of the Main that the node obeys, and since when.
pub(super) fn main_of(state_dir: &Path) -> Option<(String, Option<SystemTime>)> {
    let known = read(state_dir).ok().flatten()?;
    Some((known.name, modified(&state_dir.join(NAME))))
}

/// When a file was written: each is replaced by another one.
pub(super) fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// The name of the Main that this host obeys, if it is a node and that can be told.
pub(crate) fn obeyed(state_dir: &Path) -> Option<String> {
    read(state_dir).ok().flatten().map(|known| known.name)
}

/// Removes the binding: the next Main that connects is obeyed. Returns whether there was one.
pub(crate) fn forget(state_dir: &Path) -> io::Result<bool> {
    match fs::remove_file(state_dir.join(NAME)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read(state_dir: &Path) -> anyhow::Result<Option<MainBinding>> {
    let path = state_dir.join(NAME);
    let Some(content) = durable::read(&path).with_context(|| path.display().to_string())? else {
        return Ok(None);
    };
    let binding = sealed::open(&content);
    binding.map(Some).with_context(|| {
        format!("{} is damaged; remove it to obey the next Main that connects", path.display())
    })
}

fn write(state_dir: &Path, binding: &MainBinding) -> anyhow::Result<()> {
    let options = Options { points: POINTS, ..Options::PRIVATE };
    durable::make_dir(state_dir, 0o700)?;
    durable::replace(&state_dir.join(NAME), &sealed::seal(binding)?, options)?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hello(main: &str, epoch: u64) -> Hello {
        Hello { main: main.to_owned(), epoch, name: format!("host of {main}") }
    }

    #[test]
    fn the_highest_epoch_is_obeyed() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        for (main, epoch, obeyed) in [
            ("A", 1, true),
            ("A", 1, true),
            ("B", 1, false),
            ("A", 0, false),
            // B took over, and A does not know yet.
            ("B", 2, true),
            ("A", 1, false),
            ("A", 2, false),
            ("A", 3, true),
        ] {
            let bound = bind(&state, &hello(main, epoch));
            assert_eq!(bound.is_ok(), obeyed, "{main} {epoch}: {bound:?}");
            assert_eq!(check(&state, &hello(main, epoch)).is_ok(), obeyed);
            if let Err(error) = bound {
                assert_eq!(error.kind, NodeErrorKind::Refused);
                assert!(error.detail.contains("init --takeover"), "{error}");
            }
        }
    }

    #[test]
    fn no_new_epoch_is_beyond_the_present() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
        let accept = Accept {
            state_dir: dir.path().to_owned(),
            max_epoch: Limit::at(now),
            ..Accept::read(Path::new("/nowhere/node.toml")).unwrap()
        };
        for (epoch, accepted) in [(1_000_000, true), (1_086_400, true), (1_086_401, false), (u64::MAX, false)]
        {
            let checked = check_epoch(&accept, &hello("A", epoch));
            assert_eq!(checked.is_ok(), accepted, "{epoch}: {checked:?}");
        }
        bind(dir.path(), &hello("A", 5)).unwrap();
        let error = check_epoch(&accept, &hello("A", u64::MAX)).unwrap_err();
        assert_eq!((error.kind, error.epoch), (NodeErrorKind::Refused, Some(5)));
        assert!(error.detail.contains("more than a day beyond the present"), "{error}");
        // Whom it obeys already it goes on to obey, whatever its clock does.
        bind(dir.path(), &hello("A", u64::MAX)).unwrap();
        check_epoch(&accept, &hello("A", u64::MAX)).unwrap();
        let error = check(dir.path(), &hello("B", 1_000_000)).unwrap_err();
        assert_eq!(error.epoch, Some(u64::MAX));
        assert!(error.detail.contains("xds-sync leave") && error.detail.contains("main.json"), "{error}");
    }

    #[test]
    fn after_it_was_forgotten_another_main_is_obeyed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!forget(dir.path()).unwrap());
        bind(dir.path(), &hello("A", 5)).unwrap();
        assert!(bind(dir.path(), &hello("B", 1)).is_err());
        assert!(forget(dir.path()).unwrap());
        bind(dir.path(), &hello("B", 1)).unwrap();
    }

    #[test]
    fn checking_binds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        check(dir.path(), &hello("A", 1)).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_damage_makes_it_obey_another() {
        let dir = tempfile::tempdir().unwrap();
        bind(dir.path(), &hello("A", 5)).unwrap();
        let good = fs::read(dir.path().join(NAME)).unwrap();
        let obeys = |main, epoch| check(dir.path(), &hello(main, epoch)).is_ok();
        for at in 0..good.len() {
            let mut damaged = vec![good[..at].to_vec()];
            for bit in 0..8 {
                let mut flipped = good.clone();
                flipped[at] ^= 1 << bit;
                damaged.push(flipped);
            }
            for bytes in damaged {
                fs::write(dir.path().join(NAME), &bytes).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                assert!(!obeys("A", 4) && !obeys("B", 5), "byte {at}: {text}");
                assert!(!obeys("A", 5) || read(dir.path()).unwrap().unwrap().epoch == 5, "byte {at}: {text}");
            }
        }
    }

    #[test]
    fn it_is_for_its_owner_alone_and_written_through_nothing() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        bind(&state, &hello("A", 1)).unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, state.join(durable::temporary(NAME.as_ref()))).unwrap();
        bind(&state, &hello("A", 2)).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        for (path, mode) in [(state.clone(), 0o700), (state.join(NAME), 0o600)] {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode, "{path:?}");
        }
    }

    #[test]
    fn a_broken_record_obeys_nobody() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "{").unwrap();
        let error = bind(dir.path(), &hello("A", 1)).unwrap_err();
        assert!(error.kind == NodeErrorKind::Refused && error.detail.contains(NAME), "{error}");
    }
}
