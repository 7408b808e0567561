//! What is built in, and what the tests of each subject share.

#![allow(clippy::unwrap_used)]

mod layers;
mod mistakes;
mod shown;

use std::fs;

use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Files(dir)
    }

    fn sources(&self) -> Sources {
        Sources {
            file: self.0.path().join("config.toml"),
            home: "/root".into(),
            host_name: "pbx".to_owned(),
            ..Sources::default()
        }
    }

    /// Mistakes, without the directory that the files are in.
    fn mistakes(&self) -> String {
        self.plain(&load(&self.sources()).err().unwrap_or_default().to_string())
    }

    fn warnings(&self) -> String {
        self.plain(&load(&self.sources()).unwrap().warnings.join("\n"))
    }

    fn plain(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn config(text: &str) -> Config {
    load(&Files::new(&[("config.toml", text)]).sources()).unwrap().config
}

#[test]
fn xivos_directories_are_built_in() {
    let config = config("");
    let all: Vec<_> =
        config.directories.iter().map(|directory| (&*directory.name, directory.direction)).collect();
    let push = Direction::Push;
    assert_eq!(all, [("dialplan", push), ("moh", push), ("sounds", push), ("recordings", Direction::Both)]);
    assert_eq!(config.directories[0].reload, ["dialplan"]);
    assert_eq!(config.directories[1].reload, ["moh"]);
    assert_eq!(config.directories[3].settle, Duration::from_secs(10));
    let spec = config.scan_spec(&config.directories[2], None, false);
    assert!(spec.other_roots.contains(&"/var/lib/xivo/sounds/recordings".into()));
}

#[test]
fn a_configured_directory_has_just_what_is_written() {
    let config = config("[[directory]]\nname = \"dialplan\"\npath = \"/etc/asterisk/extensions_extra.d\"");
    assert_eq!(config.directories.len(), 1);
    assert_eq!(config.directories[0].reload, [""; 0]);
}

#[test]
fn a_node_has_the_roots_of_main_but_for_its_own() {
    let text = "[[node]]\nname = \"a\"\naddress = \"a\"\npaths = { recordings = \"/srv/rec\" }";
    let config = config(text);
    let (sounds, recordings) = (&config.directories[2], &config.directories[3]);
    let node = &config.nodes[0];
    assert_eq!(node.root_of(sounds), Path::new("/var/lib/xivo/sounds"));
    let spec = config.scan_spec(recordings, Some(node), true);
    assert_eq!((spec.root, spec.checksum), ("/srv/rec".into(), true));
    assert!(config.scan_spec(sounds, Some(node), false).other_roots.contains(&"/srv/rec".into()));
}

#[test]
fn labels_choose_the_nodes_of_a_directory() {
    let config = config(
        "[[node]]\nname = \"a\"\naddress = \"a\"\nlabels = [\"paris\", \"fast\"]\n\
         [[node]]\nname = \"b\"\naddress = \"b\"\n\
         [[directory]]\nname = \"all\"\npath = \"/x\"\n\
         [[directory]]\nname = \"some\"\npath = \"/y\"\nlabels = [\"lyon\", \"paris\"]",
    );
    let (all, some) = (&config.directories[0], &config.directories[1]);
    let nodes = |directory: &Directory| {
        config.nodes.iter().filter(|node| directory.is_for(node)).map(|node| &*node.name).collect::<Vec<_>>()
    };
    assert_eq!((nodes(all), nodes(some)), (vec!["a", "b"], vec!["a"]));
}
