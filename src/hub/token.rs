//! The token of the page and the metrics: read anew whenever it is needed, so that another one counts at once.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

/// Characters of a token. Shorter ones can be guessed: the hub answers some hundred guesses a minute.
const SHORTEST: usize = 20;
const LONGEST: usize = 512;
/// What stands in systemd's copy where there is no token.
const NONE: &[u8] = b"-";

/// Where the token is.
#[derive(Debug)]
pub(crate) struct TokenFile {
    /// As it is configured.
    pub(crate) path: PathBuf,
    /// systemd's copy of it, as it was when the service began: for a hub that may not read root's files.
    pub(crate) copy: Option<PathBuf>,
}

/// A token, as its hash: comparing hashes takes the same time wherever they differ.
pub(super) struct Token(blake3::Hash);

impl Token {
    /// Whether this is it.
    pub(super) fn is(&self, given: &[u8]) -> bool {
        // blake3's comparison is in constant time.
        blake3::hash(given) == self.0
    }
}

impl TokenFile {
    /// The token. The error says what is wrong, and what to do; never what is in the file.
    pub(super) fn read(&self) -> anyhow::Result<Token> {
        let shown = self.path.display();
        let (content, found) = match read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.of_systemd()?,
            read => read.with_context(|| format!("{shown} cannot be read"))?,
        };
        check_rights(&found, rustix::process::geteuid().as_raw())
            .with_context(|| format!("{shown} is no secret: chown root and chmod 600 it"))?;
        let token = content.trim_ascii();
        let is_plain = token.iter().all(u8::is_ascii_graphic);
        ensure!(
            is_plain && (SHORTEST..=LONGEST).contains(&token.len()),
            "{shown} has no token: expected one line of {SHORTEST} to {LONGEST} letters, digits and signs, such as `openssl rand -hex \
             32` makes"
        );
        Ok(Token(blake3::hash(token)))
    }

    /// The same by systemd's copy, as long as that is of the file as it is now.
    fn of_systemd(&self) -> anyhow::Result<(Vec<u8>, Metadata)> {
        let shown = self.path.display();
        let restart = "as a service the hub gets it from systemd: `systemctl restart xds-sync-serve`";
        let copy = self.copy.as_deref().with_context(|| format!("{shown} may not be read here"))?;
        let (content, copied) =
            read(copy).with_context(|| format!("{shown} may not be read here, nor its copy"))?;
        if content.trim_ascii() == NONE {
            bail!("{shown} is new; {restart}");
        }
        let found = fs::metadata(&self.path).with_context(|| format!("{shown} cannot be looked at"))?;
        ensure!(found.modified()? <= copied.modified()?, "{shown} has changed; {restart}");
        Ok((content, found))
    }
}

fn read(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    let mut content = Vec::new();
    file.take(2 * LONGEST as u64).read_to_end(&mut content)?;
    Ok((content, found))
}

/// Whether root and `user` alone may read it.
fn check_rights(found: &Metadata, user: u32) -> anyhow::Result<()> {
    let mode = found.mode();
    ensure!(mode & 0o007 == 0, "everybody may use it");
    ensure!(mode & 0o070 == 0 || found.gid() == 0, "a group may use it");
    ensure!([0, user].contains(&found.uid()), "it belongs to another user");
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    const TOKEN: &str = "correct-horse-battery-staple";

    fn file(content: &str, mode: u32) -> (tempfile::TempDir, TokenFile) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, TokenFile { path, copy: None })
    }

    fn refused(file: &TokenFile) -> String {
        format!("{:#}", file.read().err().unwrap())
    }

    #[test]
    fn a_token_is_one_line_and_another_counts_at_once() {
        let (_dir, file) = file(&format!("{TOKEN}\n"), 0o600);
        let token = file.read().unwrap();
        assert!(token.is(TOKEN.as_bytes()));
        for other in ["", "correct-horse-battery-stapl", "correct-horse-battery-staple ", "-"] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        fs::write(&file.path, "another-horse-battery-staple").unwrap();
        assert!(!file.read().unwrap().is(TOKEN.as_bytes()));
        for none in ["", "short", "two words are no token here", &"x".repeat(513)] {
            fs::write(&file.path, none).unwrap();
            assert!(refused(&file).contains("has no token"), "{none}");
        }
        fs::remove_file(&file.path).unwrap();
        assert!(refused(&file).contains("cannot be read"));
    }

    #[test]
    fn what_others_may_read_is_no_secret() {
        for (mode, is_fine) in [(0o600, true), (0o400, true), (0o604, false), (0o644, false), (0o606, false)]
        {
            let (_dir, file) = file(TOKEN, mode);
            assert_eq!(file.read().is_ok(), is_fine, "{mode:o}");
        }
        let (_dir, file) = file(TOKEN, 0o640);
        chown(&file.path, None, Some(12)).unwrap();
        let refused = refused(&file);
        assert!(refused.contains("chmod 600") && !refused.contains(TOKEN), "{refused}");
        chown(&file.path, Some(12), Some(0)).unwrap();
        assert!(file.read().is_err(), "its owner may read it");
    }
}
