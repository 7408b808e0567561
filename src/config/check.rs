//! From raw values to the checked configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::file::{Hidden, RawFile};
use super::mask::masked;
use super::{
    Config, Discovery, HostKeys, Http, Hub, MainHost, Postgres, ReloadPolicy, Schedule, Ssh, SyncOptions,
    address, convert, directories, layers, nodes, schedule, store,
};
use crate::toml::{Converted, Raw, text};
use crate::toml::{Mistakes, Origin};
use crate::toml::{Notes, Reader};

/// Where a configuration is read from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The main file; `conf.d` is beside it.
    pub file: PathBuf,
    /// Whether somebody asked for this file: then it must be there.
    pub file_was_named: bool,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// From flags: `section.key` and value.
    pub overrides: Vec<(String, String)>,
    /// For paths that begin with `~/`.
    pub home: PathBuf,
    /// This host's name.
    pub host_name: String,
    /// A file of `conf.d` as it would be: its path and its content.
    pub replaced: Option<(PathBuf, Vec<u8>)>,
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What is allowed and yet probably not meant, a line each: `FILE:LINE: message`.
    pub warnings: Vec<String>,
    /// Full key, value, where it comes from.
    pub(super) shown: Vec<(String, Raw, Origin)>,
}

/// Reads and checks a configuration. The error has all its mistakes, in the order of layers and lines.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    let mut notes = Notes::default();
    let (raw, forbidden) = layers::read(sources, &mut notes.mistakes);
    for path in forbidden {
        notes.mistakes.add(&Origin::File(path, 1), "cannot be read: permission denied");
    }
    checked(raw, sources, notes)
}

/// Where Main keeps its state, as far as a configuration with mistakes tells.
pub(crate) fn state_dir(sources: &Sources) -> Option<PathBuf> {
    let mut notes = Notes::default();
    let (mut raw, _) = layers::read(sources, &mut notes.mistakes);
    state_dir_of(&mut section(&mut raw, "sync", &mut notes), &sources.home)
}

/// The sections that the hub needs.
const OF_THE_HUB: [&str; 5] = ["main", "ssh", "sync", "hub", "store"];

/// Reads a configuration for the hub, which does not run as root: files of `conf.d` that it may not read, such as one
/// with passwords, are skipped. Also gives those files. What else then may be incomplete is not looked at.
pub(crate) fn load_for_hub(sources: &Sources) -> Result<(Loaded, Vec<PathBuf>), Mistakes> {
    let mut notes = Notes::default();
    let (mut raw, forbidden) = layers::read(sources, &mut notes.mistakes);
    if !forbidden.is_empty() {
        raw.sections.retain(|name, _| OF_THE_HUB.contains(&name.as_str()));
        raw.nodes.clear();
        raw.directories.clear();
    }
    Ok((checked(raw, sources, notes)?, forbidden))
}

fn checked(raw: RawFile, sources: &Sources, mut notes: Notes) -> Result<Loaded, Mistakes> {
    let config = check(raw, sources, &mut notes);
    let Notes { mut mistakes, mut warnings, shown } = notes;
    match config {
        Some(config) if mistakes.0.is_empty() => {
            warnings.sort(&sources.file);
            let warnings = warnings.0.iter().map(ToString::to_string).collect();
            Ok(Loaded { config, warnings, shown })
        }
        _ => {
            mistakes.sort(&sources.file);
            Err(mistakes)
        }
    }
}

/// A value that a later layer lies over is still somebody's mistake: it counts as soon as that layer goes.
fn check_hidden(raw: &mut RawFile, sources: &Sources, notes: &mut Notes) {
    for Hidden { section, table, key, value } in std::mem::take(&mut raw.hidden) {
        let mut fields = raw.sections.get(&section).cloned().unwrap_or_default();
        let at = value.1.clone();
        match table {
            None => fields.insert(key, value),
            Some(table) => match fields.get_mut(&table) {
                Some((Raw::Table(inner), _)) => inner.insert(key, value),
                _ => continue,
            },
        };
        let mut alone = Notes::default();
        let home = &sources.home;
        let reader = Reader::new(section.clone(), fields, Origin::Default, &mut alone);
        match &*section {
            "main" => drop(main(reader, sources)),
            "ssh" => drop(ssh(reader, home)),
            "sync" => drop(sync(reader, home)),
            "schedule" => drop(schedule_of(reader)),
            "hub" => drop(hub(reader, home)),
            "discovery" => drop(discovery(reader, home)),
            "store" => drop(store::check(reader)),
            _ => {}
        }
        notes.mistakes.0.extend(alone.mistakes.0.into_iter().filter(|mistake| mistake.origin == at));
    }
}

fn check(mut raw: RawFile, sources: &Sources, notes: &mut Notes) -> Option<Config> {
    check_hidden(&mut raw, sources, notes);
    let home = &sources.home;
    let main = main(section(&mut raw, "main", notes), sources);
    let ssh = ssh(section(&mut raw, "ssh", notes), home);
    let sync = sync(section(&mut raw, "sync", notes), home);
    let schedule = schedule_of(section(&mut raw, "schedule", notes));
    let hub = hub(section(&mut raw, "hub", notes), home);
    let discovery = discovery(section(&mut raw, "discovery", notes), home);
    let has_store = raw.sections.contains_key("store");
    let store = has_store.then(|| store::check(section(&mut raw, "store", notes)));
    let configured = if raw.directories.is_empty() { directories::built_in() } else { raw.directories };
    let labels = nodes::labels(&raw.nodes);
    let (directories, names) = directories::check(configured, &labels, notes);
    let reserved = main.as_ref().map(|main| main.name.as_str());
    let around = nodes::Around {
        directories: &directories,
        names: &names,
        main: reserved,
        host: main.as_ref().map(|main| main.host.as_str()),
        port: ssh.as_ref().map(|ssh| ssh.port),
        home,
    };
    let (nodes, followers) = nodes::check(raw.nodes, &around, notes);
    if let Some((follower, at)) = followers.first().filter(|_| !has_store) {
        let message = format!(
            "node.{}.via: it follows a store, and there is none; add a section [store] with url = \"file:///srv/xds-store\"",
            follower.name
        );
        notes.mistakes.add(at, message);
    }
    let store = match store {
        Some(store) => Some(store?),
        None => None,
    };
    let followers = followers.into_iter().map(|(follower, _)| follower).collect();
    Some(Config {
        main: main?,
        ssh: ssh?,
        sync: sync?,
        schedule: schedule?,
        hub: hub?,
        discovery,
        store,
        nodes,
        followers,
        directories,
    })
}

fn section<'n>(raw: &mut RawFile, name: &str, notes: &'n mut Notes) -> Reader<'n> {
    let fields = raw.sections.remove(name).unwrap_or_default();
    Reader::new(name.to_owned(), fields, Origin::Default, notes)
}

fn typed(text: &str) -> Raw {
    Raw::Text(text.to_owned())
}

fn main(mut reader: Reader<'_>, sources: &Sources) -> Option<MainHost> {
    let name = own_name(&mut reader, "name", sources, convert::name);
    let host = own_name(&mut reader, "host", sources, address::host);
    reader.finish();
    Some(MainHost { name: name?, host: host? })
}

/// A key whose built-in value is this host's name, which may be one that cannot serve, such as `(none)`.
fn own_name(
    reader: &mut Reader<'_>,
    key: &'static str,
    sources: &Sources,
    convert: impl Fn(&Raw) -> Converted<String>,
) -> Option<String> {
    let default = typed(&sources.host_name);
    if reader.origin_of(key) != Origin::Default || convert(&default).is_ok() {
        return reader.get(key, default, convert);
    }
    let why = format!(
        "{key} is missing, and this host's name '{}' cannot serve; add a line {key} = \"…\"",
        sources.host_name
    );
    reader.mistake(&Origin::File(sources.file.clone(), 1), &why);
    // Not there; asked for, so that it is known.
    reader.optional(key, convert)
}

fn ssh(mut reader: Reader<'_>, home: &Path) -> Option<Ssh> {
    let path = |raw: &Raw| convert::path(raw, home);
    let user = reader.get("user", typed("root"), convert::user);
    let port = reader.get("port", Raw::Number(22), convert::port);
    let identity = reader.get("identity", typed("~/.ssh/rsync_xds"), path);
    let known_hosts = reader.get("known_hosts", typed("/var/lib/xds-sync/known_hosts"), path);
    let policies = [("accept-new", HostKeys::AcceptNew), ("strict", HostKeys::Strict)];
    let host_keys = reader.get("host_keys", typed("accept-new"), |raw| convert::word(raw, &policies));
    let agent = reader.get("agent", typed("xds-sync agent"), text);
    let options_at = reader.origin_of("options");
    let options = reader.list("options", convert::ssh_option);
    if let Some(repeated) = options.as_deref().and_then(convert::repeated) {
        reader.mistake(
            &options_at,
            &format!("options: '{repeated}' has no effect: an earlier value of the same option counts"),
        );
    }
    reader.finish();
    Some(Ssh {
        user: user?,
        port: port?,
        identity: identity?,
        known_hosts: known_hosts?,
        host_keys: host_keys?,
        agent: agent?,
        options: options?,
    })
}

fn sync(mut reader: Reader<'_>, home: &Path) -> Option<SyncOptions> {
    let parallel = reader.get("parallel", Raw::Number(8), convert::parallel);
    let timeout = reader.get("timeout", typed("30s"), convert::timeout);
    let bandwidth = reader.get("bandwidth", typed("unlimited"), convert::bandwidth);
    let traffic_class = reader.get("traffic_class", typed("cs1"), convert::traffic_class);
    let policies = [("changed", ReloadPolicy::Changed), ("always", ReloadPolicy::Always)];
    let reload = reader.get("reload", typed("changed"), |raw| convert::word(raw, &policies));
    let reload_timeout = reader.get("reload_timeout", typed("2min"), convert::reload_timeout);
    let trash_keep = reader.get("trash_keep", typed("30d"), convert::duration);
    let trash_min_keep = reader.get("trash_min_keep", typed("3d"), convert::duration);
    let trash_max = reader.get("trash_max", typed("25%"), convert::trash_max);
    let state_dir = state_dir_of(&mut reader, home);
    let status_group = reader.optional("status_group", convert::group);
    let syslog_facility = reader.get("syslog_facility", typed("daemon"), convert::facility);
    reader.finish();
    Some(SyncOptions {
        parallel: parallel?,
        timeout: timeout?,
        bandwidth: bandwidth?,
        traffic_class: traffic_class?,
        reload: reload?,
        reload_timeout: reload_timeout?,
        trash_keep: trash_keep?,
        trash_min_keep: trash_min_keep?,
        trash_max: trash_max?,
        state_dir: state_dir?,
        status_group,
        syslog_facility: syslog_facility?,
    })
}

fn state_dir_of(reader: &mut Reader<'_>, home: &Path) -> Option<PathBuf> {
    reader.get("state_dir", typed("/var/lib/xds-sync"), |raw| convert::state_dir(raw, home))
}

fn schedule_of(mut reader: Reader<'_>) -> Option<Schedule> {
    let cron = reader.get("cron", typed("*/15 * * * *"), schedule::cron);
    reader.finish();
    Some(Schedule { cron: cron? })
}

fn hub(mut reader: Reader<'_>, home: &Path) -> Option<Hub> {
    let path = |raw: &Raw| convert::path(raw, home);
    let listen = reader.get("listen", typed("127.0.0.1:8443"), convert::address);
    let certificate_at = reader.origin_of("certificate");
    let key_at = reader.origin_of("key");
    let certificate = reader.optional("certificate", path);
    let key = reader.optional("key", path);
    let token_at = reader.origin_of("token_file");
    let token_file = reader.optional("token_file", path);
    warn_of_file(&mut reader, &key_at, "key", key.as_deref());
    warn_of_file(&mut reader, &token_at, "token_file", token_file.as_deref());
    match (&certificate, &key) {
        (Some(_), None) => reader.mistake(&certificate_at, "certificate needs the key that belongs to it"),
        (None, Some(_)) => reader.mistake(&key_at, "key needs the certificate that belongs to it"),
        _ => {}
    }
    reader.finish();
    Some(Hub { listen: listen?, certificate, key, token_file })
}

fn discovery(mut reader: Reader<'_>, home: &Path) -> Discovery {
    let path = |raw: &Raw| convert::path(raw, home);
    let mut found = Discovery { file: reader.optional("file", path), ..Discovery::default() };
    if let Some(mut table) = reader.table("postgres") {
        let url_at = table.origin_of("url");
        let url = table.required("url", convert::postgres_url);
        warn_of_secret(&mut table, &url_at, url.as_ref().map(|(url, _)| url.as_str()));
        let query = table.get("query", typed("SELECT name, voip_ip FROM mediaserver"), convert::query);
        table.finish();
        found.postgres = url.zip(query).map(|((url, connection), query)| Postgres { url, connection, query });
    }
    if let Some(mut table) = reader.table("http") {
        let url_at = table.origin_of("url");
        let url = table.required("url", convert::web_url);
        if url.as_ref().is_some_and(|url| url.starts_with("http:")) {
            let why = "url: is not encrypted: whoever is on the way can name nodes, and read the headers";
            table.warn(&url_at, why);
        }
        warn_of_secret(&mut table, &url_at, url.as_deref());
        let items = table.get("items", typed("/items"), convert::pointer);
        let name = table.get("name", typed("/name"), convert::pointer);
        let address = table.get("address", typed("/voip_ip"), convert::pointer);
        let headers_at = table.origin_of("headers_file");
        let headers_file = table.optional("headers_file", path);
        warn_of_file(&mut table, &headers_at, "headers_file", headers_file.as_deref());
        let ca = table.optional("ca", path);
        table.finish();
        if let (Some(url), Some(items), Some(name), Some(address)) = (url, items, name, address) {
            found.http = Some(Http { url, items, name, address, headers_file, ca });
        }
    }
    reader.finish();
    found
}

/// Warns when a URL with a secret stands in a file that everybody may read.
fn warn_of_secret(reader: &mut Reader<'_>, at: &Origin, url: Option<&str>) {
    let Origin::File(file, _) = at else { return };
    if url.is_some_and(|url| masked(url) != url) && is_readable_by_all(file) {
        let why = "url: holds a secret, and everybody may read this file; put it into conf.d/secrets.toml with mode 0600";
        reader.warn(at, why);
    }
}

/// Warns when everybody may read a file that holds secrets.
fn warn_of_file(reader: &mut Reader<'_>, at: &Origin, key: &str, file: Option<&Path>) {
    if let Some(file) = file.filter(|file| is_readable_by_all(file)) {
        reader.warn(at, &format!("{key}: everybody may read {}; chmod 600 it", file.display()));
    }
}

fn is_readable_by_all(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|found| found.permissions().mode() & 0o004 != 0)
}
