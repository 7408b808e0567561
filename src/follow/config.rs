//! What `node.toml` says of following a store: `[store]`, `[follow]` and `[follow.startup]`. The rest of the file is
//! [`Accept`](crate::node::Accept)'s.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::directories::{self, Directories};
use super::startup::{Mode, Options};
use crate::config::{duration, name, store, word};
use crate::durable;
use crate::store::StoreSpec;
use crate::store::events::Events;
use crate::toml::{self, Converted, Mistakes, Notes, Origin, Raw, Reader};

/// How this node follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where the store is.
    pub(crate) store: StoreSpec,
    /// Where publications are told, beside the hub.
    pub(crate) events: Option<Events>,
    /// This node's name on Main.
    pub(crate) name: String,
    /// A file with Main's public key: what it has signed is believed.
    pub(crate) main_key: PathBuf,
    /// The private key that this node signs with.
    pub(crate) identity: PathBuf,
    /// Which directories it takes; none: those that Main has for it.
    pub(crate) labels: Option<Vec<String>>,
    /// What it takes of each of them.
    pub(crate) directories: Directories,
    /// How often the store is looked at when nothing is heard.
    pub(crate) interval: Duration,
    /// How it starts.
    pub(crate) startup: Options,
}

const MAIN_KEY: &str = "/etc/xds-sync/main.pub";
const IDENTITY: &str = "/etc/xds-sync/node_key";

impl Config {
    /// Reads `file`; `None`: it says nothing of following. A file with mistakes is an error ([`Mistakes`]).
    pub(crate) fn read(file: &Path) -> anyhow::Result<Option<Config>> {
        let content = durable::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        Ok(content.map(|content| Config::parse(file, &content)).transpose()?.flatten())
    }

    /// What `file` would say with this content, which speaks of following.
    pub(crate) fn of_text(file: &Path, text: &str) -> anyhow::Result<Config> {
        Config::parse(file, text.as_bytes())?.context("nothing is said of following")
    }

    fn parse(file: &Path, content: &[u8]) -> Result<Option<Config>, Mistakes> {
        let mut notes = Notes::default();
        let fields = toml::parse(file, content, &mut notes.mistakes);
        let is_written = fields.contains_key("store") || fields.contains_key("follow");
        // Keys beside these two tables are for others to know.
        let reader = Reader::new(String::new(), fields, Origin::File(file.to_owned(), 1), &mut notes);
        let config = if is_written { written(reader) } else { None };
        match (config, notes.mistakes.0.is_empty()) {
            (Some(config), true) => Ok(Some(config)),
            (None, true) if !is_written => Ok(None),
            _ => {
                notes.mistakes.sort(file);
                Err(notes.mistakes)
            }
        }
    }
}

fn written(mut reader: Reader<'_>) -> Option<Config> {
    let store = reader.required_table("store").and_then(place);
    let follow = reader.required_table("follow").and_then(follow);
    let (store, events) = store?;
    Some(Config { store, events, ..follow? })
}

/// Where the store is, and where publications are told.
fn place(mut reader: Reader<'_>) -> Option<(StoreSpec, Option<Events>)> {
    let url = reader.required("url", store::node_url);
    let ca = reader.optional("ca", path);
    let proxy = reader.optional("proxy", proxy);
    let events = reader.optional("events", store::events);
    let options = reader.table("options").map(|table| table.names(toml::text)).unwrap_or_default();
    reader.finish();
    let options: BTreeMap<_, _> = options.into_iter().map(|(name, value, _)| (name, value)).collect();
    let events = events.map(|url| Events { url, ca: ca.clone() });
    Some((StoreSpec { url: url?, options, ca, proxy }, events))
}

fn proxy(raw: &Raw) -> Converted<String> {
    let proxy = toml::text(raw)?;
    let is_known = ["http://", "https://"].iter().any(|scheme| proxy.starts_with(scheme));
    // It may have a password.
    if is_known { Ok(proxy) } else { Err("expected a URL such as \"http://proxy:3128\"".to_owned()) }
}

/// All but where the store is.
fn follow(mut reader: Reader<'_>) -> Option<Config> {
    let text = |text: &str| Raw::Text(text.to_owned());
    let own_name = reader.required("name", name);
    let main_key = reader.get("main_key", text(MAIN_KEY), path);
    let identity = reader.get("identity", text(IDENTITY), path);
    let labels = match reader.has("labels") {
        true => reader.list("labels", name).map(Some),
        false => Some(None),
    };
    let directories = directories::read(&mut reader);
    let interval = reader.get("interval", text("60s"), pause);
    let startup = startup(&mut reader);
    reader.finish();
    Some(Config {
        store: StoreSpec::default(),
        events: None,
        name: own_name?,
        main_key: main_key?,
        identity: identity?,
        labels: labels?,
        directories: directories?,
        interval: interval?,
        startup: startup?,
    })
}

fn startup(reader: &mut Reader<'_>) -> Option<Options> {
    let text = |text: &str| Raw::Text(text.to_owned());
    let mut table = reader.table_or_empty("startup")?;
    let mode =
        table.get("mode", text("sync"), |raw| word(raw, &[("sync", Mode::Sync), ("async", Mode::Async)]));
    let retries = table.get("retries", Raw::Number(10), retries);
    let first = if mode == Some(Mode::Async) { "15s" } else { "2s" };
    let retry_pause = table.get("retry_pause", text(first), pause);
    let retry_max = table.get("retry_max", text("1h"), pause);
    table.finish();
    Some(Options { mode: mode?, retries: retries?, retry_pause: retry_pause?, retry_max: retry_max? })
}

fn path(raw: &Raw) -> Converted<PathBuf> {
    let text = toml::text(raw)?;
    toml::absolute(&text, Path::new(&text))
}

/// Shortest pause: below it a store would be asked without end.
const SHORTEST: Duration = Duration::from_millis(100);
/// Longest one: a follower that has not looked for a day knows nothing.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

fn pause(raw: &Raw) -> Converted<Duration> {
    match duration(raw)? {
        pause if pause < SHORTEST => Err("must be at least \"100ms\"".to_owned()),
        pause if pause > LONGEST => Err("must be at most \"1day\"".to_owned()),
        pause => Ok(pause),
    }
}

fn retries(raw: &Raw) -> Converted<u32> {
    match u32::try_from(toml::number(raw)?) {
        Ok(retries) if retries <= 1000 => Ok(retries),
        _ => Err("expected a number from 0 to 1000".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::directories::OwnRules;
    use super::*;
    use crate::model::{ConflictPolicy, Take};

    fn parse(text: &str) -> Result<Option<Config>, Mistakes> {
        Config::parse(Path::new("node.toml"), text.as_bytes())
    }

    const LEAST: &str = "roots = ['/srv']\n[store]\nurl = 'file:///srv/store'\n[follow]\nname = 'mds1'\n";

    #[test]
    fn little_need_be_written() {
        let config = parse(LEAST).unwrap().unwrap();
        assert_eq!((config.store.url.as_str(), config.name.as_str()), ("file:///srv/store", "mds1"));
        assert_eq!(config.main_key, Path::new("/etc/xds-sync/main.pub"));
        assert_eq!(config.identity, Path::new("/etc/xds-sync/node_key"));
        assert_eq!((config.labels, config.interval), (None, Duration::from_secs(60)));
        let second = Duration::from_secs(1);
        let startup =
            Options { mode: Mode::Sync, retries: 10, retry_pause: 2 * second, retry_max: 3600 * second };
        assert_eq!(config.startup, startup);
    }

    #[test]
    fn the_first_pause_depends_on_the_mode() {
        let config = parse(&format!("{LEAST}[follow.startup]\nmode = 'async'\n")).unwrap().unwrap();
        assert_eq!(config.startup.retry_pause, Duration::from_secs(15));
        let config = parse(&format!("{LEAST}[follow.startup]\nmode = 'async'\nretry_pause = '1s'\n"));
        assert_eq!(config.unwrap().unwrap().startup.retry_pause, Duration::from_secs(1));
    }

    #[test]
    fn a_node_that_is_pushed_to_says_nothing_of_it() {
        assert_eq!(parse("roots = ['/srv']\nread_only = true\n").unwrap(), None);
        assert_eq!(Config::read(Path::new("/nowhere/node.toml")).unwrap(), None);
    }

    #[test]
    fn a_node_says_what_it_takes_of_a_directory() {
        let config = parse(&format!(
            "{LEAST}[[follow.directory]]\nname = 'moh'\ntake = ['create', 'update']\n[[follow.directory]]\nname = 'rec'\n\
             conflict = 'manual'\n[[follow.directory]]\nname = 'none'\ntake = []\nconflict = 'node'\n"
        ));
        let directories = config.unwrap().unwrap().directories;
        let take = |create, update, delete| Take { create, update, delete };
        let expected = [
            ("moh", OwnRules { take: take(true, true, false), conflict: None }),
            ("none", OwnRules { take: take(false, false, false), conflict: Some(ConflictPolicy::Node) }),
            ("rec", OwnRules { take: Take::ALL, conflict: Some(ConflictPolicy::Manual) }),
        ];
        assert_eq!(directories, expected.map(|(name, rules)| (name.to_owned(), rules)).into());
    }

    #[test]
    fn mistakes_in_what_a_node_takes_are_named_with_what_may_stand_there() {
        let error = parse(&format!(
            "{LEAST}[[follow.directory]]\nname = 'moh'\ntake = ['create', 'remove']\nconflict = 'this'\n\
             [[follow.directory]]\nname = 'moh'\n[[follow.directory]]\nname = 'rec'\ntakes = []\n[[follow.directory]]\n"
        ));
        insta::assert_snapshot!(error.unwrap_err(), @r#"
        node.toml:8: follow.directory.moh.take: expected one of "create", "update", "delete", found 'remove'
        node.toml:9: follow.directory.moh.conflict: expected one of "main", "node", "newer", "manual", found 'this'
        node.toml:11: follow.directory.moh.name: there is a [[follow.directory]] of that name already
        node.toml:14: unknown key follow.directory.rec.takes (did you mean 'take'?)
        node.toml:15: follow.directory.name is missing; add a line name = "…"
        "#);
        let error = parse(&format!("{LEAST}directory = 'moh'\n")).unwrap_err();
        insta::assert_snapshot!(error, @"node.toml:6: follow.directory: expected tables, each under [[follow.directory]], found a string");
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let error = parse(
            "[store]\nurl = ''\nca_file = 'x'\n[follow]\nlabels = ['a b']\ninterval = '1ms'\nidentity = 'key'\n\
             [follow.startup]\nmode = 'never'\nretries = -1\nretry_paus = '1s'\n",
        )
        .unwrap_err();
        let mistakes: Vec<String> = error.0.iter().map(ToString::to_string).collect();
        let lines: Vec<&str> = mistakes.iter().filter_map(|line| line.split(": ").next()).collect();
        let at = |line: u32| format!("node.toml:{line}");
        // The name is missing in the table that begins at line 4.
        assert_eq!(lines, [2, 3, 4, 5, 6, 7, 9, 10, 11].map(at), "{error}");
        assert!(
            mistakes[8].contains("follow.startup.retry_paus") && mistakes[8].contains("retry_pause"),
            "{error}"
        );
        let error =
            parse("[store]\nurl = 'ftp://x'\nproxy = 'proxy:3128'\n[follow]\nname = 'mds1'\n").unwrap_err();
        assert_eq!(error.0.len(), 2, "{error}");
        let error = parse("[follow]\nname = 'mds1'\n").unwrap_err().to_string();
        assert!(error.contains("[store]"), "{error}");
        let error = parse("[store]\nurl = 'file:///srv'\n").unwrap_err().to_string();
        assert!(error.contains("[follow]"), "{error}");
    }
}
