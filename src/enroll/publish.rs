//! Publishes Main's public key for nodes: a world-readable copy, served by XiVO's nginx or by the hub.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, bail};
use toml_edit::DocumentMut;

use super::install::{Installed, install};
use super::join::PATH;
use crate::durable;

/// XiVO's directory of public files.
pub(crate) const CERTS: &str = "/usr/share/xivo-certs";
/// The public key's name there.
pub(crate) const KEY_NAME: &str = "rsync_xds.pub";
/// Name of our nginx snippet and of the directory of downloads.
const OWN: &str = "xds-sync";

/// Where things are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// The directory of public files.
    pub(crate) certs: PathBuf,
    /// nginx's snippets: `https-available`, and links to them in `https-enabled`.
    pub(crate) locations: PathBuf,
    /// How nginx is called, before `-t` and `-s reload`.
    pub(crate) nginx: Vec<OsString>,
}

impl Default for Site {
    fn default() -> Site {
        Site { certs: CERTS.into(), locations: "/etc/nginx/locations".into(), nginx: vec!["nginx".into()] }
    }
}

/// How nginx came to serve the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Served {
    /// By our location, which was added or renewed; nginx was reloaded.
    Made,
    /// The same, but nginx could not be reloaded; why.
    Unread(String),
    /// By our location, as before.
    Kept,
    /// By a location in another file.
    By(PathBuf),
}

impl Site {
    /// Installs a world-readable copy of the public key. Returns whether it changed.
    pub(crate) fn copy_key(&self, public: &Path) -> anyhow::Result<bool> {
        let key = fs::read(public).with_context(|| format!("reading {}", public.display()))?;
        Ok(install(&self.certs.join(KEY_NAME), &key)? != Installed::Kept)
    }

    /// Installs a file that nginx serves to new nodes. Returns whether it changed.
    pub(crate) fn copy_download(&self, name: &str, content: &[u8]) -> anyhow::Result<bool> {
        Ok(install(&self.certs.join(OWN).join(name), content)? != Installed::Kept)
    }

    /// Whether there is an nginx in XiVO's layout.
    #[must_use]
    pub(crate) fn has_nginx(&self) -> bool {
        self.available().is_dir() && self.enabled().is_dir()
    }

    fn available(&self) -> PathBuf {
        self.locations.join("https-available")
    }

    fn enabled(&self) -> PathBuf {
        self.locations.join("https-enabled")
    }

    /// Makes nginx serve the key. A location that `nginx -t` refuses is removed again, since nginx would not start
    /// with it.
    pub(crate) fn serve_with_nginx(&self) -> anyhow::Result<Served> {
        if let Some(other) = self.other_location()? {
            return Ok(Served::By(other));
        }
        let file = self.available().join(OWN);
        let link = self.enabled().join(OWN);
        let before = durable::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let linked = match fs::symlink_metadata(&link) {
            Ok(metadata) if metadata.is_symlink() => true,
            Ok(_) => bail!("{} is in the way: a link of that name is needed", link.display()),
            Err(_) => false,
        };
        let content = self.location();
        if linked && before.as_deref() == Some(content.as_bytes()) {
            return Ok(Served::Kept);
        }
        install(&file, content.as_bytes())?;
        if !linked {
            symlink(Path::new("../https-available").join(OWN), &link)
                .with_context(|| format!("linking {}", link.display()))?;
        }
        if let Err(why) = self.nginx(&["-t"]) {
            // The link first: nginx does not start with a dangling one.
            if !linked || before.is_none() {
                fs::remove_file(&link).with_context(|| format!("taking back {}", link.display()))?;
            }
            match before {
                Some(before) => install(&file, &before).map(drop)?,
                None => fs::remove_file(&file).with_context(|| format!("taking back {}", file.display()))?,
            }
            return Err(match self.nginx(&["-t"]) {
                Ok(()) => anyhow!("nginx does not accept our location, which was taken back: {why}"),
                Err(why) => anyhow!("nginx -t fails, so nothing was added to it; repair it first: {why}"),
            });
        }
        match self.nginx(&["-s", "reload"]) {
            Ok(()) => Ok(Served::Made),
            Err(why) => Ok(Served::Unread(why)),
        }
    }

    fn location(&self) -> String {
        let certs = self.certs.display();
        format!(
            "# Made by `xds-sync init`, which also renews it: Main's public key and what new nodes install.\n\
             location = {PATH} {{\n    \
                 alias \"{certs}/{KEY_NAME}\";\n    \
                 default_type text/plain;\n    \
                 add_header Cache-Control no-cache;\n\
             }}\n\
             location /{OWN}/ {{\n    \
                 alias \"{certs}/{OWN}/\";\n    \
                 default_type application/octet-stream;\n\
             }}\n"
        )
    }

    /// Another enabled file that has a location for the key.
    fn other_location(&self) -> anyhow::Result<Option<PathBuf>> {
        let dir = self.enabled();
        let reading = || format!("reading {}", dir.display());
        for entry in fs::read_dir(&dir).with_context(reading)? {
            let path = entry.with_context(reading)?.path();
            // A dangling link is reported by `nginx -t`.
            let Ok(text) = fs::read(&path) else { continue };
            if path.file_name() != Some(OWN.as_ref()) && serves_key(&String::from_utf8_lossy(&text)) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    fn nginx(&self, args: &[&str]) -> Result<(), String> {
        let Some((program, first)) = self.nginx.split_first() else { return Err("no nginx".to_owned()) };
        let output = Command::new(program).args(first).args(args).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("nginx cannot be run: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("[emerg]")).collect();
        Err(if lines.is_empty() { said.trim().to_owned() } else { lines.join("; ") })
    }
}

/// Whether a location in this snippet matches the path of the key. A location for `/` does not count: ours is more
/// specific and wins.
fn serves_key(snippet: &str) -> bool {
    let code: String =
        snippet.lines().map(|line| line.split('#').next().unwrap_or("")).collect::<Vec<_>>().join(" ");
    let code = code.replace('{', " { ");
    let words: Vec<&str> = code.split_whitespace().collect();
    words.windows(3).any(|words| match words {
        ["location", "=", path] => unquoted(path) == PATH,
        ["location", "^~", path] => is_above(unquoted(path)),
        ["location", "~" | "~*", pattern] => pattern.contains("ssh-key") || pattern.contains("rsync_xds"),
        ["location", path, "{"] => match path.strip_prefix('=') {
            Some(exact) => exact == PATH,
            None => is_above(unquoted(path)),
        },
        _ => false,
    })
}

fn unquoted(word: &str) -> &str {
    word.trim_matches(['"', '\''])
}

fn is_above(prefix: &str) -> bool {
    prefix.len() > 1 && PATH.starts_with(prefix)
}

/// Sets `hub.listen` in a file of `conf.d`, whose other lines stay as they are.
pub(crate) fn set_hub_listen(file: &Path, listen: SocketAddr) -> anyhow::Result<()> {
    let reading = || format!("reading {}", file.display());
    let before = String::from_utf8(durable::read(file).with_context(reading)?.unwrap_or_default());
    let mut document: DocumentMut = before.with_context(reading)?.parse().with_context(reading)?;
    let hub = document.entry("hub").or_insert(toml_edit::table());
    let hub = hub.as_table_like_mut().with_context(|| format!("in {} hub is no table", file.display()))?;
    hub.insert("listen", toml_edit::value(listen.to_string()));
    install(file, document.to_string().as_bytes()).map(drop)
}

#[cfg(test)]
mod tests;
