//! A change is reported when a host has confirmed it, and not before: whatever ends the edge, neither JSON nor text,
//! syslog or history name a file that was not put in place.

use std::collections::BTreeSet;

use crate::support::{Cluster, Host, Run, eventually};

const SOUNDS: &str = "/var/lib/xivo/sounds";

fn at(name: &str) -> String {
    format!("{SOUNDS}/{name}")
}

/// One node that is in step; then Main creates six files, updates two and deletes one.
fn nine_changes() -> (Cluster, [&'static str; 9]) {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let main = &cluster.main;
    for name in ["u1.wav", "u2.wav", "gone.wav", "stays.wav"] {
        main.write_settled(at(name), "before");
    }
    main.sync_json([""; 0]).exits(0);
    let names = ["c1.wav", "c2.wav", "c3.wav", "c4.wav", "c5.wav", "c6.wav", "u1.wav", "u2.wav", "gone.wav"];
    for name in &names[..8] {
        main.write_settled(at(name), format!("after {name}"));
    }
    main.remove(at("gone.wav"));
    (cluster, names)
}

/// What has really been done on the node.
fn done<'n>(node: &Host, names: &[&'n str]) -> BTreeSet<&'n str> {
    let is_done = |name: &&&str| match **name {
        "gone.wav" => !node.exists(at("gone.wav")),
        name => node.exists(at(name)) && node.read_text(at(name)) == format!("after {name}"),
    };
    names.iter().filter(is_done).copied().collect()
}

/// The file names in lines that report a change.
fn named<'n>(text: &str, names: &[&'n str]) -> BTreeSet<&'n str> {
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("main -> mds1: ")).collect();
    names.iter().filter(|name| lines.iter().any(|line| line.contains(**name))).copied().collect()
}

fn sounds(run: &Run) -> &serde_json::Value {
    let directories = run.node("mds1")["directories"].as_array().unwrap();
    directories.iter().find(|directory| directory["name"] == "sounds").unwrap()
}

/// Runs while the agent meets a fail point; returns when it is gone.
fn with_fault<T>(cluster: &Cluster, fault: &str, run: impl FnOnce(&Host) -> T) -> T {
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    let config = format!("[ssh]\nagent = \"env XDS_FAULT={fault} xds-sync agent\"\n");
    main.write("/etc/xds-sync/conf.d/fault.toml", config);
    let ran = run(main);
    main.remove("/etc/xds-sync/conf.d/fault.toml");
    eventually("the agent is gone", std::time::Duration::from_secs(30), || {
        !mds1.sh("pgrep -f '[x]ds-sync agent'").success()
    });
    ran
}

/// The end comes in the middle of the commit, or before the first of its steps.
const ENDS: [&str; 4] = ["rename.new:3=kill", "rename.new:3=hang-up", "exchange=kill", "stage.sync=hang-up"];

#[test]
fn json_and_history_name_no_change_that_no_host_confirmed() {
    for fault in ENDS {
        let (cluster, names) = nine_changes();
        let main = &cluster.main;
        let run = with_fault(&cluster, fault, |main| main.sync_json([""; 0]));
        run.exits(41);
        let done = done(&cluster["mds1"], &names);
        // An agent whose Main is gone finishes what it is doing, and tells nobody; one that is killed does not.
        assert!(done.len() < names.len() || fault.ends_with("hang-up"), "{fault} came too late");

        let changes = run.changes();
        let reported: BTreeSet<&str> =
            names.into_iter().filter(|name| changes.iter().any(|change| change.ends_with(name))).collect();
        assert!(reported.is_subset(&done), "{fault}: reported {reported:?}, done {done:?}");
        let sounds = sounds(&run);
        let counted: u64 =
            ["created", "updated", "deleted"].map(|key| sounds[key].as_u64().unwrap()).iter().sum();
        assert_eq!(counted, reported.len() as u64, "{fault}: {sounds}");
        assert_eq!(sounds["planned"], names.len() as u64 - counted, "{fault}: {sounds}");

        let history = main.xds_sync(["history", "--json"]).json();
        let runs = history["runs"].as_array().unwrap();
        let recorded = runs.iter().filter(|recorded| recorded["run"] == run.json["run"]);
        let recorded: usize = recorded.map(|recorded| recorded["changes"].as_array().unwrap().len()).sum();
        assert_eq!(recorded, changes.len(), "{fault}: {history}");

        // The next run does the rest, and says so.
        main.sync_json([""; 0]).exits(0);
        main.tree(SOUNDS).assert_same(&cluster["mds1"].tree(SOUNDS));
    }
}

#[test]
fn text_and_syslog_name_no_change_that_no_host_confirmed() {
    for fault in ENDS {
        let (cluster, names) = nine_changes();
        let main = &cluster.main;
        // What came before is in the log already.
        main.await_syslog("in step");
        let before = main.syslog().len();
        let run = with_fault(&cluster, fault, |main| main.xds_sync(["sync"]));
        run.exits(41);
        let done = done(&cluster["mds1"], &names);
        let shown = named(&run.text(), &names);
        assert!(shown.is_subset(&done), "{fault}: shown {shown:?}, done {done:?}");

        eventually("the run's last line in syslog", std::time::Duration::from_secs(20), || {
            main.syslog()[before..].iter().any(|line| line.contains("exit 41"))
        });
        let logged = named(&main.syslog()[before..].join("\n"), &names);
        assert!(logged.is_subset(&done), "{fault}: logged {logged:?}, done {done:?}");
    }
}
