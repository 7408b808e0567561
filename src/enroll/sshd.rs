//! Whether this host's sshd lets Main in by the line that `join` wrote: as sshd itself understands its configuration.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use globset::Glob;

/// Where the system's sshd is; it is in nobody's PATH but root's.
const PROGRAM: &str = "/usr/sbin/sshd";

/// Who is to be let in, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Visitor<'a> {
    /// The user that Main logs in as.
    pub(crate) user: &'a str,
    pub(crate) groups: Vec<String>,
    pub(crate) home: &'a Path,
    /// Main's host name and address, as far as they are known.
    pub(crate) host: &'a str,
    pub(crate) address: Option<String>,
    /// The file with Main's key.
    pub(crate) authorized_keys: &'a Path,
    /// Of Main's key, such as `ssh-ed25519`.
    pub(crate) algorithm: String,
}

/// Keyword → its values, as `sshd -T` prints them.
type Settings = BTreeMap<String, Vec<String>>;

/// A file or directory that sshd looks at before it trusts a file of keys.
struct Link {
    path: PathBuf,
    uid: u32,
    gid: u32,
    mode: u32,
}

/// What keeps Main out, with what to do about it; nothing, if nothing does. `Err`: sshd does not say.
pub(crate) fn obstacles(visitor: &Visitor<'_>) -> anyhow::Result<Vec<String>> {
    let mut sshd = Command::new(PROGRAM);
    let address = visitor.address.as_deref().map(|address| format!(",addr={address}")).unwrap_or_default();
    sshd.args(["-T", "-C"]).arg(format!("user={},host={}{address}", visitor.user, visitor.host));
    let said = sshd.stdin(Stdio::null()).output().with_context(|| format!("running {PROGRAM} -T"))?;
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr);
        bail!("{PROGRAM} -T says: {}", why.lines().last().unwrap_or("nothing"));
    }
    let settings = parse(&String::from_utf8_lossy(&said.stdout));
    let mut found = of_settings(&settings, visitor);
    if value(&settings, "strictmodes") == "yes" && reads_file(&settings, visitor) {
        found.extend(of_rights(&links(visitor)?));
    }
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    let is_locked = shadow.lines().any(|line| line.starts_with(&format!("{}:!", visitor.user)));
    if is_locked && value(&settings, "usepam") == "no" {
        let user = visitor.user;
        found.push(format!("the account {user} is locked, and UsePAM is no: `usermod -p '*' {user}`"));
    }
    Ok(found)
}

fn parse(text: &str) -> Settings {
    let mut settings = Settings::new();
    for (keyword, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        settings.entry(keyword.to_ascii_lowercase()).or_default().push(value.trim().to_owned());
    }
    settings
}

/// The value of a keyword that has one; empty where sshd does not know it.
fn value<'s>(settings: &'s Settings, keyword: &str) -> &'s str {
    settings.get(keyword).and_then(|values| values.first()).map_or("", String::as_str)
}

/// What the configuration forbids.
fn of_settings(settings: &Settings, visitor: &Visitor<'_>) -> Vec<String> {
    let Visitor { user, algorithm, .. } = visitor;
    let mut found = Vec::new();
    let mut forbids = |keyword: &str, is: bool, remedy: &str| {
        if is {
            found.push(format!(
                "{keyword} is '{}' in sshd's configuration: {remedy}",
                value(settings, &keyword.to_ascii_lowercase())
            ));
        }
    };
    let is = |keyword: &str, word: &str| value(settings, keyword) == word;
    forbids("PubkeyAuthentication", is("pubkeyauthentication", "no"), "set it to yes");
    forbids(
        "PermitRootLogin",
        *user == "root" && is("permitrootlogin", "no"),
        "set it to prohibit-password or forced-commands-only",
    );
    forbids("MaxSessions", is("maxsessions", "0"), "set it to 1 at least");
    let is_set = |keyword: &str| !matches!(value(settings, keyword), "" | "none");
    forbids(
        "ForceCommand",
        is_set("forcecommand"),
        "it runs in the place of the agent; leave out Main, by Match",
    );
    forbids(
        "ChrootDirectory",
        is_set("chrootdirectory"),
        "the agent is not in there; leave out Main, by Match",
    );
    let methods = value(settings, "authenticationmethods");
    let is_enough = |methods: &str| methods.split_whitespace().any(|way| matches!(way, "any" | "publickey"));
    forbids(
        "AuthenticationMethods",
        !methods.is_empty() && !is_enough(methods),
        "a key alone must be enough for Main, by Match",
    );
    for keyword in ["PubkeyAcceptedAlgorithms", "PubkeyAcceptedKeyTypes"] {
        let accepted = value(settings, &keyword.to_ascii_lowercase());
        let takes = |name: &str| accepted.split(',').any(|accepted| accepted == name);
        let takes_key = if algorithm == "ssh-rsa" {
            takes("rsa-sha2-256") || takes("rsa-sha2-512")
        } else {
            takes(algorithm)
        };
        forbids(
            keyword,
            !accepted.is_empty() && !takes_key,
            &format!("add {algorithm}, the kind of Main's key"),
        );
    }
    let all = |keyword: &str| settings.get(keyword).map(|values| values.join(" ")).unwrap_or_default();
    let is_listed = |keyword: &str| is_user_in(&all(keyword), visitor);
    let of_group = |keyword: &str| {
        visitor.groups.iter().any(|group| all(keyword).split(' ').any(|pattern| matches(pattern, group)))
    };
    for (keyword, keeps_out, remedy) in [
        ("DenyUsers", is_listed("denyusers"), "take it out"),
        ("AllowUsers", is_set("allowusers") && !is_listed("allowusers"), "add it"),
        ("DenyGroups", of_group("denygroups"), "take its group out"),
        ("AllowGroups", is_set("allowgroups") && !of_group("allowgroups"), "add its group"),
    ] {
        if keeps_out {
            let list = all(&keyword.to_ascii_lowercase());
            found.push(format!(
                "{keyword} in sshd's configuration keeps {user} out, it is '{list}': {remedy}"
            ));
        }
    }
    if !reads_file(settings, visitor) && !is_set("authorizedkeyscommand") {
        found.push(format!(
            "sshd reads keys from '{}' and not from {}: add .ssh/authorized_keys to AuthorizedKeysFile in its configuration",
            value(settings, "authorizedkeysfile"),
            visitor.authorized_keys.display()
        ));
    }
    found
}

/// Whether the file with Main's key is one of those that sshd reads.
fn reads_file(settings: &Settings, visitor: &Visitor<'_>) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let home = visitor.home.to_string_lossy();
    value(settings, "authorizedkeysfile").split_whitespace().any(|name| {
        let name = name.replace("%h", &home).replace("%u", visitor.user).replace("%%", "%");
        real(&visitor.home.join(name)) == real(visitor.authorized_keys)
    })
}

/// Whether a list of patterns USER or USER@HOST has the visitor.
fn is_user_in(list: &str, visitor: &Visitor<'_>) -> bool {
    let is_host = |pattern: &str| {
        // A range of addresses is left to sshd.
        pattern.contains('/')
            || matches(pattern, visitor.host)
            || visitor.address.as_ref().is_none_or(|address| matches(pattern, address))
    };
    list.split(' ').filter(|pattern| !pattern.is_empty()).any(|pattern| match pattern.rsplit_once('@') {
        Some((user, host)) => matches(user, visitor.user) && is_host(host),
        None => matches(pattern, visitor.user),
    })
}

fn matches(pattern: &str, name: &str) -> bool {
    Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(name))
}

/// The file of keys and the directories that it is in, up to the home directory, or to `/`.
fn links(visitor: &Visitor<'_>) -> anyhow::Result<Vec<Link>> {
    let real = |path: &Path| path.canonicalize().with_context(|| path.display().to_string());
    let (file, home) = (real(visitor.authorized_keys)?, real(visitor.home)?);
    let end = if file.starts_with(&home) { home } else { PathBuf::from("/") };
    let mut links = Vec::new();
    for path in file.ancestors() {
        let is = fs::metadata(path).with_context(|| path.display().to_string())?;
        links.push(Link { path: path.to_owned(), uid: is.uid(), gid: is.gid(), mode: is.mode() });
        if path == end {
            break;
        }
    }
    Ok(links)
}

/// What somebody else could have changed: with StrictModes, sshd does not trust it. root's own group may write, as
/// Debian's sshd has it.
fn of_rights(links: &[Link]) -> Vec<String> {
    let obstacle = |link: &Link| {
        let path = link.path.display();
        if link.uid != 0 && link.uid != rustix::process::geteuid().as_raw() {
            return Some(format!(
                "{path} belongs to user id {}, and sshd ignores the keys below it: chown root {path}",
                link.uid
            ));
        }
        let others = link.mode & 0o002 != 0 || (link.mode & 0o020 != 0 && link.gid != 0);
        others.then(|| {
            format!("others may write to {path}, and sshd ignores the keys below it: chmod go-w {path}")
        })
    };
    links.iter().filter_map(obstacle).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: &str = "port 22\npermitrootlogin prohibit-password\npubkeyauthentication yes\nstrictmodes yes\nmaxsessions 10\n\
        authorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2\nauthorizedkeyscommand none\nforcecommand none\n\
        chrootdirectory none\nauthenticationmethods any\npubkeyacceptedalgorithms ssh-ed25519,rsa-sha2-512\n";

    fn told(more: &str, algorithm: &str) -> String {
        let visitor = Visitor {
            user: "root",
            groups: vec!["root".to_owned()],
            home: Path::new("/nowhere/root"),
            host: "main",
            address: Some("10.0.0.1".to_owned()),
            authorized_keys: Path::new("/nowhere/root/.ssh/authorized_keys"),
            algorithm: algorithm.to_owned(),
        };
        // sshd prints each keyword of one value once.
        let keyword = more.split(' ').next().unwrap_or_default();
        let usual = USUAL.lines().filter(|line| keyword.is_empty() || !line.starts_with(keyword));
        let text = usual.chain(more.lines()).collect::<Vec<_>>().join("\n");
        of_settings(&parse(&text), &visitor).join("; ")
    }

    #[test]
    fn what_keeps_main_out_is_told() {
        for (more, says) in [
            ("", ""),
            ("permitrootlogin no", "PermitRootLogin is 'no'"),
            ("permitrootlogin forced-commands-only", ""),
            ("pubkeyauthentication no", "PubkeyAuthentication is 'no'"),
            ("maxsessions 0", "MaxSessions is '0'"),
            ("forcecommand internal-sftp", "ForceCommand is 'internal-sftp'"),
            ("chrootdirectory /srv", "ChrootDirectory is '/srv'"),
            ("authenticationmethods publickey,password", "AuthenticationMethods is"),
            ("authenticationmethods password publickey", ""),
            ("pubkeyacceptedalgorithms ecdsa-sha2-nistp256", "PubkeyAcceptedAlgorithms is"),
            ("denyusers root", "DenyUsers"),
            ("denyusers r*@10.0.0.*", "DenyUsers"),
            ("denyusers root@10.9.0.*", ""),
            ("allowusers admin\nallowusers root@main", ""),
            ("allowusers admin", "AllowUsers"),
            ("denygroups root", "DenyGroups"),
            ("allowgroups ssh", "AllowGroups"),
            ("authorizedkeysfile /etc/keys/%u", "sshd reads keys from '/etc/keys/%u'"),
            ("authorizedkeysfile none", "sshd reads keys from 'none'"),
            ("authorizedkeysfile %h/.ssh/authorized_keys", ""),
            ("authorizedkeysfile /nowhere/%u/.ssh/authorized_keys", ""),
        ] {
            let told = told(more, "ssh-ed25519");
            assert_eq!(told.is_empty(), says.is_empty(), "{more}: {told}");
            assert!(told.contains(says), "{more}: {told}");
        }
        assert_eq!(told("", "ssh-rsa"), "");
    }

    #[test]
    fn what_others_could_have_written_is_told() {
        let links = [(0, 0, 0o755), (0, 0, 0o775), (0, 0, 0o757), (0, 4, 0o775), (1234, 0, 0o700)];
        let of = |(uid, gid, mode)| !of_rights(&[Link { path: "/root".into(), uid, gid, mode }]).is_empty();
        assert_eq!(links.map(of), [false, false, true, true, true]);
    }
}
