//! Installs this program on a host where Main's key still opens a shell: the commands, and their answers.
//!
//! Each command is one `sh -c` without single quotes inside, so that it works in any login shell.

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use crate::model::escape::escape_for_people;

/// Where the program is on a node, as in `command=` of authorized_keys.
pub(crate) const PLACE: &str = "/usr/bin/xds-sync";
/// First line of the answer to [`probe`], after whatever a login shell prints.
const MARK: &str = "xds-sync-shell";

/// Asks for the machine type, and for what is installed already.
#[must_use]
pub(crate) fn probe() -> String {
    in_sh(&format!(
        "echo; echo {MARK}; uname -m; sha256sum <{PLACE} 2>/dev/null || echo; dpkg-query -S {PLACE} 2>/dev/null || echo"
    ))
}

/// The answer to [`probe`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// Machine type, as in `uname -m`.
    pub(crate) machine: String,
    /// SHA-256 of the installed program, in hexadecimal.
    pub sha256: Option<String>,
    /// The Debian package that the program belongs to.
    pub(crate) package: Option<String>,
}

impl Probe {
    /// Reads the answer to [`probe`]; `None` where no shell answered.
    #[must_use]
    pub(crate) fn read(answer: &[u8]) -> Option<Probe> {
        let text = String::from_utf8_lossy(answer);
        let mut lines = text.lines().map(str::trim).skip_while(|line| *line != MARK).skip(1);
        let machine = lines.next()?.to_owned();
        let sum = lines.next().and_then(|line| line.split(' ').next());
        let package = lines.next().and_then(|line| line.split(':').next());
        let some = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        Some(Probe { machine, sha256: some(sum), package: some(package) })
    }

    /// Whether the program with this SHA-256 must be installed; an error where it must not be.
    pub(crate) fn needs(&self, sha256: &str, machine: &str) -> anyhow::Result<bool> {
        let theirs = escape_for_people(self.machine.as_bytes());
        ensure!(
            self.machine == machine,
            "it is {theirs}, and Main is {machine}: Main's program does not run there; install the package for \
             {theirs} on it, then run `xds-sync join` there"
        );
        if self.sha256.as_deref() == Some(sha256) {
            return Ok(false);
        }
        if let Some(package) = &self.package {
            let package = escape_for_people(package.as_bytes());
            anyhow::bail!(
                "{PLACE} is of the Debian package {package} there: upgrade that with apt on the node"
            );
        }
        Ok(true)
    }
}

/// Installs the program from stdin if it arrived complete and runs.
#[must_use]
pub(crate) fn install(sha256: &str) -> String {
    in_sh(&format!(
        "set -eu; umask 077; new=$(mktemp {PLACE}.XXXXXX); trap \"rm -f $new\" EXIT; cat >$new; \
         found=$(sha256sum <$new); found=${{found%% *}}; \
         if [ $found != {sha256} ]; then echo \"the program arrived with SHA-256 $found\" >&2; exit 1; fi; \
         chmod 755 $new; $new --version >/dev/null; sync $new; mv -f $new {PLACE}; trap - EXIT"
    ))
}

/// Allows the Main with the public key on stdin to run the agent, and nothing else.
pub(crate) fn join(main: &str) -> anyhow::Result<String> {
    let shown = escape_for_people(main.as_bytes());
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    ensure!(main.chars().all(plain) && !main.starts_with('-'), "{shown} is no host: set main.host");
    Ok(in_sh(&format!("exec {PLACE} join --key - \"{main}\"")))
}

fn in_sh(script: &str) -> String {
    format!("exec sh -c '{script}'")
}

/// The SHA-256 of a program, in hexadecimal.
#[must_use]
pub(crate) fn sha256(program: &[u8]) -> String {
    Sha256::digest(program).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The last line of the output of a failed command.
pub(crate) fn said(out: &[u8], err: &[u8]) -> anyhow::Result<String> {
    let text = [out, err].map(String::from_utf8_lossy).concat();
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.map(|line| escape_for_people(line.as_bytes())).context("it said nothing")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn answers_of_hosts() {
        let found = |machine: &str, sha256: Option<&str>, package: Option<&str>| Probe {
            machine: machine.to_owned(),
            sha256: sha256.map(str::to_owned),
            package: package.map(str::to_owned),
        };
        for (answer, expected) in [
            ("\nxds-sync-shell\nx86_64\n\n\n", Some(found("x86_64", None, None))),
            ("Welcome!\n\nxds-sync-shell\r\naarch64\nabc  -\n\n", Some(found("aarch64", Some("abc"), None))),
            (
                "\nxds-sync-shell\nx86_64\nabc  -\nxds-sync: /usr/bin/xds-sync\n",
                Some(found("x86_64", Some("abc"), Some("xds-sync"))),
            ),
            ("\u{fffd}xds-sync\r\n\u{1a}\n\0", None),
            ("", None),
        ] {
            assert_eq!(Probe::read(answer.as_bytes()), expected, "{answer:?}");
        }
    }

    #[test]
    fn what_is_put_where() {
        for (sha256, package, machine, needs) in [
            (None, None, "x86_64", Ok(true)),
            (Some("abc"), None, "x86_64", Ok(false)),
            (Some("abc"), Some("xds-sync"), "x86_64", Ok(false)),
            (Some("old"), None, "x86_64", Ok(true)),
            (Some("old"), Some("xds-sync"), "x86_64", Err("upgrade that with apt")),
            (None, None, "aarch64", Err("install the package for aarch64")),
        ] {
            let some = |text: Option<&str>| text.map(str::to_owned);
            let found = Probe { machine: machine.to_owned(), sha256: some(sha256), package: some(package) };
            match (found.needs("abc", "x86_64"), needs) {
                (Ok(needed), Ok(expected)) => assert_eq!(needed, expected),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn any_login_shell_takes_the_commands() {
        for shell in ["sh", "bash"] {
            let asked = Command::new(shell).args(["-c", &probe()]).output().unwrap();
            assert!(Probe::read(&asked.stdout).is_some(), "{shell}: {asked:?}");
        }
        for command in [probe(), install("abc"), join("xivo:8443").unwrap()] {
            assert_eq!(command.matches('\'').count(), 2, "{command}");
        }
        for main in ["a b", "$(id)", "a\"b", "-x", "a'b"] {
            assert!(join(main).is_err(), "{main}");
        }
    }
}
