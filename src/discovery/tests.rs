//! With a real PostgreSQL server, a real TLS server, and real files.
#![allow(clippy::unwrap_used, clippy::panic)]

mod database;
mod file;
mod merge;
mod web;

use std::fs;
use std::path::Path;

use super::*;
use crate::config::{Sources, load};

/// A checked configuration with this text; there is no node unless it says so.
fn config(text: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, text).unwrap();
    let home = Path::new("/root").to_owned();
    load(&Sources { file, host_name: "xivo".to_owned(), home, ..Sources::default() }).unwrap().config
}

/// Of a host `xivo` with the address 10.0.0.1, which is also what `alias` stands for.
fn found(config: &Config, last: &Answers) -> Discovered {
    let machine = Machine {
        names: vec![config.main.name.clone()],
        addresses: vec!["10.0.0.1".parse().unwrap()],
        lookup: &|name| if name == "alias" { vec!["10.0.0.1".parse().unwrap()] } else { Vec::new() },
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045),
        zone: Zone::of(jiff::tz::TimeZone::fixed(jiff::tz::offset(1))),
    };
    discover(config, &machine, last)
}

/// `name=address` of each node.
fn told(discovered: &Discovered) -> String {
    let told = |found: &DiscoveredNode| format!("{}={}", found.node.name, found.node.address);
    discovered.nodes.iter().map(told).collect::<Vec<_>>().join(" ")
}

/// The only failure, without which one would look at the wrong thing.
fn failure(config: &Config) -> String {
    let found = found(config, &Answers::default());
    assert_eq!((told(&found), found.failures.len()), (String::new(), 1), "{found:?}");
    found.failures[0].clone()
}
