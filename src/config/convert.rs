//! From a value as typed to what it means. Errors say what is expected.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::postgres::Connection;
use crate::model::reserved::reserved_name;
use crate::model::{MaxLoss, NotASize, Owner, Size, TrashMax};
use crate::snapshot::{Rules, without_effect};
use crate::toml::{Converted, Raw, absolute, number, text};

/// Longest wait: beyond it a run would never end, and clocks could overflow.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn port(raw: &Raw) -> Converted<u16> {
    match u16::try_from(number(raw)?) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err("expected a port from 1 to 65535".to_owned()),
    }
}

pub(super) fn parallel(raw: &Raw) -> Converted<usize> {
    match usize::try_from(number(raw)?) {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err("expected a number from 1 to 1024".to_owned()),
    }
}

pub(crate) fn duration(raw: &Raw) -> Converted<Duration> {
    let text = text(raw)?;
    humantime::parse_duration(&text)
        .map_err(|_| format!("expected a duration such as \"30s\" or \"15min\", found '{text}'"))
}

pub(super) fn timeout(raw: &Raw) -> Converted<Duration> {
    match duration(raw)? {
        timeout if timeout < Duration::from_secs(1) => Err("must be at least \"1s\"".to_owned()),
        timeout if timeout > DAY => Err("must be at most \"1day\"".to_owned()),
        timeout => Ok(timeout),
    }
}

/// No node gives a reload more time than this.
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn reload_timeout(raw: &Raw) -> Converted<Duration> {
    match timeout(raw)? {
        timeout if timeout > HOUR => Err("must be at most \"1h\"".to_owned()),
        timeout => Ok(timeout),
    }
}

pub(super) fn settle(raw: &Raw) -> Converted<Duration> {
    match duration(raw)? {
        settle if settle > DAY => Err("must be at most \"1day\"".to_owned()),
        settle => Ok(settle),
    }
}

/// Bytes a second; none: unlimited.
pub(super) fn bandwidth(raw: &Raw) -> Converted<Option<u64>> {
    let text = text(raw)?;
    if text == "unlimited" {
        return Ok(None);
    }
    let wrong = || format!("expected \"unlimited\" or a rate such as \"4 MiB/s\", found '{text}'");
    let rate = text.strip_suffix("/s").ok_or_else(wrong)?;
    match rate.parse() {
        // Below this, one message would take longer than the usual timeout.
        Ok(Size(rate)) if rate >= 16 << 10 => Ok(Some(rate)),
        Ok(_) => Err("must be at least \"16 KiB/s\"".to_owned()),
        Err(NotASize) => Err(wrong()),
    }
}

pub(super) fn trash_max(raw: &Raw) -> Converted<TrashMax> {
    let text = text(raw)?;
    if text == "unlimited" {
        return Ok(TrashMax::Unlimited);
    }
    let read = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse().ok().filter(|percent| *percent <= 100).map(TrashMax::Percent),
        None => text.parse().ok().map(|Size(bytes)| TrashMax::Bytes(bytes)),
    };
    read.ok_or_else(|| {
        format!(
            "expected \"unlimited\", a share such as \"25%\" or a size such as \"20 GiB\", found '{text}'"
        )
    })
}

/// A public ssh key; its comment says nothing to anybody else.
pub(super) fn public_key(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    let wrong = || format!("expected a public key such as \"ssh-ed25519 AAAA…\", found '{text}'");
    let key = ssh_key::PublicKey::from_openssh(text.trim()).map_err(|_| wrong())?;
    ssh_key::PublicKey::from(key.key_data().clone()).to_openssh().map_err(|_| wrong())
}

/// One of some words.
pub(crate) fn word<T: Copy>(raw: &Raw, words: &[(&str, T)]) -> Converted<T> {
    let found = text(raw)?;
    let known = words.iter().find(|(word, _)| *word == found);
    let names = || words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    known.map(|(_, value)| *value).ok_or_else(|| format!("expected one of {}, found '{found}'", names()))
}

/// The path of something on Main; a leading `~/` is the home directory.
pub(super) fn path(raw: &Raw, home: &Path) -> Converted<PathBuf> {
    let text = text(raw)?;
    match text.strip_prefix("~/") {
        Some(rest) => absolute(&text, &home.join(rest)),
        None => absolute(&text, Path::new(&text)),
    }
}

/// The root of a directory. It is named to nodes too, whose home is another one.
pub(super) fn root(raw: &Raw) -> Converted<PathBuf> {
    let text = text(raw)?;
    let root = absolute(&text, Path::new(&text))?;
    if root == Path::new("/") {
        return Err("a whole host cannot be synchronised; name a directory below /".to_owned());
    }
    if let Some(name) = reserved_name(&root) {
        return Err(format!("nothing in {} is ever synchronised", name.display()));
    }
    Ok(root)
}

pub(crate) fn name(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    if !is_name(&text) {
        return Err(format!(
            "a name has letters, digits, '.', '_' and '-' only, does not begin with '.' or '-', and has at most \
             64 of them, found '{text}'"
        ));
    }
    Ok(text)
}

/// Whether this can be the name of a node, a directory or a label.
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.chars().all(allowed) && !text.starts_with(['-', '.']) && text.len() <= 64
}

pub(super) fn reload(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if text.chars().all(allowed) {
        return Ok(text);
    }
    Err(format!("expected the name of a reload such as \"dialplan\", not a command, found '{text}'"))
}

pub(super) fn user(raw: &Raw) -> Converted<String> {
    account(raw, "a user's name")
}

pub(super) fn group(raw: &Raw) -> Converted<String> {
    account(raw, "a group's name")
}

fn account(raw: &Raw, expected: &str) -> Converted<String> {
    let text = text(raw)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !text.chars().all(allowed) || text.starts_with('-') {
        return Err(format!("expected {expected}, found '{text}'"));
    }
    Ok(text)
}

/// Whether a text is a user's name, as in `ssh.user`.
#[must_use]
pub(crate) fn is_user(text: &str) -> bool {
    user(&Raw::Text(text.to_owned())).is_ok()
}

/// Whether a text can be the root of a directory, as in `directory.path`.
#[must_use]
pub(crate) fn is_root(text: &str) -> bool {
    root(&Raw::Text(text.to_owned())).is_ok()
}

pub(super) fn owner(raw: &Raw) -> Converted<Owner> {
    let text = text(raw)?;
    let wrong = || format!("expected \"user:group\" such as \"asterisk:www-data\", found '{text}'");
    let (owner, group) = text.split_once(':').ok_or_else(wrong)?;
    // Owners are carried by name: 1000 may be somebody else on the node.
    let is_number = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let part = |name: &str| match user(&Raw::Text(name.to_owned())) {
        Ok(name) if !is_number(&name) => Ok(name),
        _ => Err(wrong()),
    };
    Ok(Owner::new(Some(&part(owner)?), Some(&part(group)?)))
}

/// Bytes; none: unlimited.
pub(super) fn max_add(raw: &Raw) -> Converted<Option<u64>> {
    let text = text(raw)?;
    if text == "unlimited" {
        return Ok(None);
    }
    let wrong = |NotASize| format!("expected \"unlimited\" or a size such as \"20 GiB\", found '{text}'");
    text.parse().map(|Size(bytes)| Some(bytes)).map_err(wrong)
}

pub(super) fn max_loss(raw: &Raw) -> Converted<MaxLoss> {
    match raw {
        Raw::Number(number) => {
            u64::try_from(*number).map(MaxLoss::Files).map_err(|_| "must not be negative".to_owned())
        }
        _ => text(raw)?.parse().map_err(str::to_owned),
    }
}

/// Longest path of the state directory: below it lie the control sockets of ssh, whose paths have 108 bytes at most.
pub(crate) const MAX_STATE_DIR: usize = 57;

pub(super) fn state_dir(raw: &Raw, home: &Path) -> Converted<PathBuf> {
    let path = path(raw, home)?;
    let length = path.as_os_str().len();
    if length > MAX_STATE_DIR {
        return Err(format!(
            "a path of {length} bytes, more than {MAX_STATE_DIR}: no control socket of ssh fits below it"
        ));
    }
    Ok(path)
}

pub(super) fn glob(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    if text.bytes().all(|byte| byte == b'/') {
        return Err(format!("expected a pattern such as \"*.bak\", found '{text}'"));
    }
    // What the scan itself makes of it.
    Rules::new(std::slice::from_ref(&text), Vec::new())
        .map_err(|error| format!("not a valid pattern: {error}"))?;
    match without_effect(&text) {
        Some(why) => Err(format!("'{text}' excludes nothing: {why}")),
        None => Ok(text),
    }
}

pub(super) fn address(raw: &Raw) -> Converted<SocketAddr> {
    let text = text(raw)?;
    match text.parse::<SocketAddr>() {
        // The kernel would choose another one each time, which no node could know.
        Ok(address) if address.port() > 0 => Ok(address),
        _ => Err(format!("expected ADDRESS:PORT such as \"127.0.0.1:8443\", found '{text}'")),
    }
}

pub(super) fn traffic_class(raw: &Raw) -> Converted<String> {
    // ssh_config(5), IPQoS.
    const CLASSES: [&str; 25] = [
        "af11",
        "af12",
        "af13",
        "af21",
        "af22",
        "af23",
        "af31",
        "af32",
        "af33",
        "af41",
        "af42",
        "af43",
        "cs0",
        "cs1",
        "cs2",
        "cs3",
        "cs4",
        "cs5",
        "cs6",
        "cs7",
        "ef",
        "le",
        "lowdelay",
        "throughput",
        "none",
    ];
    let text = text(raw)?;
    if CLASSES.contains(&text.as_str()) || text.parse::<u8>().is_ok() {
        return Ok(text);
    }
    Err(format!(
        "expected what ssh's IPQoS knows, such as \"cs1\", \"none\" or a number from 0 to 255, found '{text}'"
    ))
}

/// One of ssh's `-o` options: `Keyword=value`, see ssh_config(5).
pub(super) fn ssh_option(raw: &Raw) -> Converted<String> {
    let text = text(raw)?;
    let is_keyword = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match text.split_once(['=', ' ']) {
        Some((keyword, value)) if is_keyword(keyword) && !value.trim().is_empty() => match taken(keyword) {
            Some(instead) => Err(format!("'{text}' has no effect: {instead}")),
            None => Ok(text),
        },
        _ => Err(format!("expected an option of ssh_config(5) such as \"ProxyJump=gate\", found '{text}'")),
    }
}

/// What decides in the place of an option that this program sets itself; `None`: the option counts.
fn taken(keyword: &str) -> Option<&'static str> {
    Some(match &*keyword.to_ascii_lowercase() {
        "stricthostkeychecking" => "write ssh.host_keys; a changed key is refused in any case",
        "userknownhostsfile" => "write ssh.known_hosts",
        "user" => "write ssh.user, or user in the [[node]]",
        "port" => "write ssh.port, or port in the [[node]]",
        "host" | "match" | "include" => "options here are for all nodes; write it into ssh_config(5)",
        "controlmaster" | "controlpath" | "controlpersist" => "xds-sync makes its own connections",
        "hostkeyalias" | "checkhostip" | "hashknownhosts" | "updatehostkeys" => {
            "a node's key is looked up under its address, in ssh.known_hosts"
        }
        "localforward"
        | "remoteforward"
        | "dynamicforward"
        | "clearallforwardings"
        | "forwardagent"
        | "forwardx11"
        | "tunnel"
        | "permitlocalcommand"
        | "localcommand" => "a node gets a stream to its agent and nothing else",
        "remotecommand" | "sessiontype" | "requesttty" | "forkafterauthentication" | "stdinnull" => {
            "ssh.agent is what is run on the node"
        }
        "batchmode" | "loglevel" => "xds-sync sets it itself",
        _ => return None,
    })
}

/// The first option that an earlier one makes useless: ssh takes the first value of each.
pub(super) fn repeated(options: &[String]) -> Option<&String> {
    let keyword = |option: &String| option.split(['=', ' ']).next().unwrap_or_default().to_ascii_lowercase();
    let adds_up =
        |keyword: &str| matches!(keyword, "identityfile" | "certificatefile" | "sendenv" | "setenv");
    options.iter().enumerate().find_map(|(at, option)| {
        let word = keyword(option);
        let is_repeated = options[..at].iter().any(|earlier| keyword(earlier) == word);
        (is_repeated && !adds_up(&word)).then_some(option)
    })
}

/// A PostgreSQL connection. Errors do not quote it: it may hold a password.
pub(super) fn postgres_url(raw: &Raw) -> Converted<(String, Connection)> {
    let url = text(raw)?;
    let is_url = ["postgresql://", "postgres://"].iter().any(|scheme| url.starts_with(scheme));
    // libpq's other form: keywords and values.
    if is_url || (!url.contains("://") && url.contains('=')) {
        let connection = Connection::parse(&url)?;
        return Ok((url, connection));
    }
    Err("expected a URL such as \"postgresql://user@host/asterisk\"".to_owned())
}

/// SQL, which may have several lines.
pub(super) fn query(raw: &Raw) -> Converted<String> {
    match raw {
        Raw::Text(query) if !query.trim().is_empty() && !query.contains('\0') => Ok(query.clone()),
        raw => text(raw).and_then(|_| Err("expected a query that gives name and address".to_owned())),
    }
}

/// A JSON pointer; empty: the whole document.
pub(super) fn pointer(raw: &Raw) -> Converted<String> {
    match raw {
        Raw::Text(text) if text.is_empty() => Ok(String::new()),
        raw => match text(raw)? {
            text if text.starts_with('/') => Ok(text),
            text => Err(format!("expected a JSON pointer such as \"/items\", found '{text}'")),
        },
    }
}

/// A web address. As [`postgres_url`], it may hold a password.
pub(super) fn web_url(raw: &Raw) -> Converted<String> {
    let url = text(raw)?;
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) {
        return Ok(url);
    }
    Err("expected a URL that begins with https:// or http://".to_owned())
}

pub(super) fn facility(raw: &Raw) -> Converted<String> {
    const FACILITIES: [&str; 14] = [
        "auth", "authpriv", "cron", "daemon", "syslog", "user", "local0", "local1", "local2", "local3",
        "local4", "local5", "local6", "local7",
    ];
    let text = text(raw)?;
    if FACILITIES.contains(&text.as_str()) {
        Ok(text)
    } else {
        Err(format!("expected one of {}", FACILITIES.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    #[test]
    fn rates() {
        assert_eq!(bandwidth(&typed("unlimited")), Ok(None));
        assert_eq!(bandwidth(&typed("4 MiB/s")), Ok(Some(4 << 20)));
        assert_eq!(bandwidth(&typed("500kB/s")), Ok(Some(500_000)));
        for bad in ["4", "4 MiB", "MiB/s", "-1 MiB/s", "1 B/s", "99999999999999 GiB/s"] {
            assert!(bandwidth(&typed(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn how_much_trash() {
        assert_eq!(trash_max(&typed("unlimited")), Ok(TrashMax::Unlimited));
        assert_eq!(trash_max(&typed("25%")), Ok(TrashMax::Percent(25)));
        assert_eq!(trash_max(&typed("20 GiB")), Ok(TrashMax::Bytes(20 << 30)));
        for bad in ["", "%", "101%", "-1%", "20", "GiB", "20 GiB/s", "99999999 TiB"] {
            assert!(trash_max(&typed(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn options_of_ssh() {
        for good in ["ProxyJump=gate", "Ciphers aes128-gcm@openssh.com", "ProxyCommand=nc %h %p"] {
            assert_eq!(ssh_option(&typed(good)).as_deref(), Ok(good));
        }
        let repeating = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
            repeated(&options).cloned()
        };
        assert_eq!(repeating(&["Ciphers=a", "IdentityFile=a", "IdentityFile=b"]), None);
        assert_eq!(repeating(&["Ciphers=a", "ciphers b"]).as_deref(), Some("ciphers b"));
        for (without, instead) in [
            ("StrictHostKeyChecking=no", "ssh.host_keys"),
            ("userknownhostsfile /dev/null", "ssh.known_hosts"),
            ("Port=2222", "ssh.port"),
            ("LocalForward=1 localhost:1", "nothing else"),
        ] {
            let why = ssh_option(&typed(without)).err().unwrap_or_default();
            assert!(why.contains("has no effect") && why.contains(instead), "{why}");
        }
        for bad in ["", "ProxyJump", "ProxyJump=", "-oProxyJump=gate", "=gate", "two words=x\ny"] {
            assert!(ssh_option(&typed(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn owners_are_names() {
        assert!(owner(&typed("asterisk:www-data")).is_ok());
        for bad in ["asterisk", "asterisk:", ":www-data", "1000:www-data", "asterisk:33", "a:b:c", "-a:b"] {
            assert!(owner(&typed(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_root_is_below_slash_and_nobodys_home() {
        assert_eq!(root(&typed("/srv//moh/")), Ok("/srv/moh".into()));
        for bad in ["/", "//", "~/moh", "moh", "/srv/../etc"] {
            assert!(root(&typed(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn waits_end() {
        assert_eq!(timeout(&typed("1s")), Ok(Duration::from_secs(1)));
        assert_eq!(settle(&typed("0s")), Ok(Duration::ZERO));
        assert!(timeout(&typed("999ms")).is_err());
        assert_eq!(reload_timeout(&typed("1h")), Ok(HOUR));
        assert!(reload_timeout(&typed("61min")).is_err());
        assert!(reload_timeout(&typed("999ms")).is_err());
        assert!(timeout(&typed("500000000000y")).is_err());
        assert!(settle(&typed("500000000000y")).is_err());
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        let home = Path::new("/root");
        assert_eq!(path(&typed("~/.ssh/key"), home), Ok("/root/.ssh/key".into()));
        assert_eq!(path(&typed("/srv//moh/"), home), Ok("/srv/moh".into()));
        for bad in ["srv", "./x", "/a/../b", ""] {
            assert!(path(&typed(bad), home).is_err(), "{bad}");
        }
    }
}
