//! Raw → checked.

use std::path::{Path, PathBuf};

use super::mistake::{Mistakes, Origin};
use super::raw::{Raw, RawFile};
use super::reader::{Notes, Reader};
use super::{
    Config, Discovery, HostKeys, Http, Hub, MainHost, Postgres, ReloadPolicy, Schedule, Ssh, SyncOptions,
    convert, directories, layers, nodes,
};

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
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    shown: Vec<(String, String, Origin)>,
}

impl Loaded {
    /// Every value with its origin, a line each: `section.key = value  # FILE:LINE`.
    #[must_use]
    pub fn show(&self) -> Vec<String> {
        self.shown
            .iter()
            .map(|(key, value, origin)| format!("{key} = {}  # {origin}", masked(key, value)))
            .collect()
    }
}

/// Reads and checks a configuration.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    let mut notes = Notes::default();
    let raw = layers::read(sources, &mut notes.mistakes);
    let config = check(raw, sources, &mut notes);
    match config {
        Some(config) if notes.mistakes.0.is_empty() => Ok(Loaded { config, shown: notes.shown }),
        _ => Err(notes.mistakes),
    }
}

fn check(mut raw: RawFile, sources: &Sources, notes: &mut Notes) -> Option<Config> {
    let home = &sources.home;
    let main = main(section(&mut raw, "main", notes), &sources.host_name);
    let ssh = ssh(section(&mut raw, "ssh", notes), home);
    let sync = sync(section(&mut raw, "sync", notes), home);
    let schedule = schedule(section(&mut raw, "schedule", notes));
    let hub = hub(section(&mut raw, "hub", notes), home);
    let discovery = discovery(section(&mut raw, "discovery", notes), home);
    let configured = if raw.directories.is_empty() { directories::built_in() } else { raw.directories };
    let directories = directories::check(configured, home, notes);
    let nodes = nodes::check(raw.nodes, &directories, home, notes);
    Some(Config {
        main: main?,
        ssh: ssh?,
        sync: sync?,
        schedule: schedule?,
        hub: hub?,
        discovery,
        nodes,
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

fn main(mut reader: Reader<'_>, host_name: &str) -> Option<MainHost> {
    let name = reader.get("name", typed(host_name), convert::name);
    let host = reader.get("host", typed(host_name), convert::host);
    reader.finish();
    Some(MainHost { name: name?, host: host? })
}

fn ssh(mut reader: Reader<'_>, home: &Path) -> Option<Ssh> {
    let path = |raw: &Raw| convert::path(raw, home);
    let user = reader.get("user", typed("root"), convert::user);
    let port = reader.get("port", Raw::Number(22), convert::port);
    let identity = reader.get("identity", typed("~/.ssh/rsync_xds"), path);
    let known_hosts = reader.get("known_hosts", typed("/var/lib/xds-sync/known_hosts"), path);
    let policies = [("accept-new", HostKeys::AcceptNew), ("strict", HostKeys::Strict)];
    let host_keys = reader.get("host_keys", typed("accept-new"), |raw| convert::word(raw, &policies));
    let agent = reader.get("agent", typed("xds-sync agent"), convert::text);
    let options = reader.get("options", Raw::List(Vec::new()), |raw| convert::list(raw, convert::text));
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
    let trash_keep = reader.get("trash_keep", typed("30d"), convert::duration);
    let state_dir = reader.get("state_dir", typed("/var/lib/xds-sync"), |raw| convert::path(raw, home));
    let syslog_facility = reader.get("syslog_facility", typed("daemon"), convert::facility);
    reader.finish();
    Some(SyncOptions {
        parallel: parallel?,
        timeout: timeout?,
        bandwidth: bandwidth?,
        traffic_class: traffic_class?,
        reload: reload?,
        trash_keep: trash_keep?,
        state_dir: state_dir?,
        syslog_facility: syslog_facility?,
    })
}

fn schedule(mut reader: Reader<'_>) -> Option<Schedule> {
    let cron = reader.get("cron", typed("*/15 * * * *"), convert::cron);
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
    let token_file = reader.optional("token_file", path);
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
        let url = table.required("url", convert::text);
        let query = table.get("query", typed("SELECT name, voip_ip FROM mediaserver"), convert::text);
        table.finish();
        found.postgres = url.zip(query).map(|(url, query)| Postgres { url, query });
    }
    if let Some(mut table) = reader.table("http") {
        let pointer = |raw: &Raw| match raw {
            // The whole document.
            Raw::Text(text) if text.is_empty() => Ok(String::new()),
            raw => match convert::text(raw)? {
                text if text.starts_with('/') => Ok(text),
                text => Err(format!("expected a JSON pointer such as \"/items\", found '{text}'")),
            },
        };
        let url = table.required("url", |raw| match convert::text(raw)? {
            url if url.starts_with("https://") || url.starts_with("http://") => Ok(url),
            url => Err(format!("expected a URL that begins with https://, found '{url}'")),
        });
        let items = table.get("items", typed("/items"), pointer);
        let name = table.get("name", typed("/name"), pointer);
        let address = table.get("address", typed("/voip_ip"), pointer);
        let headers_file = table.optional("headers_file", path);
        let ca = table.optional("ca", path);
        table.finish();
        if let (Some(url), Some(items), Some(name), Some(address)) = (url, items, name, address) {
            found.http = Some(Http { url, items, name, address, headers_file, ca });
        }
    }
    reader.finish();
    found
}

/// The value without a password in it.
fn masked(key: &str, value: &str) -> String {
    if key != "discovery.postgres.url" {
        return value.to_owned();
    }
    let Some((scheme, rest)) = value.split_once("://") else { return "\"***\"".to_owned() };
    // A password may contain '@' and more: the last one before the host ends it.
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) => format!("{}:***@{host}", user.split(':').next().unwrap_or_default()),
        None => rest.to_owned(),
    };
    let rest = match rest.split_once("password=") {
        Some((before, after)) => {
            let end = after.find(['&', '"', ' ']).unwrap_or(after.len());
            format!("{before}password=***{}", &after[end..])
        }
        None => rest,
    };
    format!("{scheme}://{rest}")
}
