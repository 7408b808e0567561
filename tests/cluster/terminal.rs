//! What only a terminal gets: headers, questions, completed words. And what is printed to be typed next.

use crate::support::{Cluster, Host, Output};

const SOUNDS: &str = "/var/lib/xivo/sounds";
const CONFIG: &str = "/etc/xds-sync/config.toml";

/// Runs a command on a terminal of its own, on which this is typed.
fn on_terminal(host: &Host, command: &str, typed: &str) -> Output {
    host.sh(format!("printf '{typed}' | script --quiet --return --command '{command}' /dev/null"))
}

#[test]
fn a_question_is_answered_on_a_terminal_and_a_table_has_a_header_there() {
    let cluster = Cluster::new().nodes(2).without_asterisk().build();
    let main = &cluster.main;
    main.sh(format!("mkdir -p {SOUNDS}/en && for n in $(seq 12); do echo $n >{SOUNDS}/en/$n.wav; done")).ok();
    main.sync_json([""; 0]).exits(0);
    main.sh(format!("rm -r {SOUNDS}/en")).ok();
    main.sync_json([""; 0]).exits(25);

    let restore = "xds-sync restore sounds en";
    let refused = on_terminal(main, restore, "n\\n");
    refused.exits(1);
    let text = refused.text();
    assert!(text.contains("files back on Main?"), "{text}");
    assert!(text.contains("nothing was restored") && !main.exists(format!("{SOUNDS}/en")), "{text}");
    on_terminal(main, restore, "\\n").exits(1);
    assert!(!main.exists(format!("{SOUNDS}/en")), "nothing typed is no yes");
    on_terminal(main, restore, "y\\n").exits(0);
    assert_eq!(main.read_text(format!("{SOUNDS}/en/7.wav")), "7\n");
    main.sync_json([""; 0]).exits(0);

    let listed = on_terminal(main, "xds-sync nodes list", "");
    assert!(listed.text().contains("NAME  ADDRESS     USER  LABELS  KNOWN FROM"), "{}", listed.text());
    assert!(!main.xds_sync(["nodes", "list"]).ok().contains("NAME"), "a script reads rows alone");
}

#[test]
fn bash_completes_names_and_init_prints_what_is_typed_next() {
    let cluster = Cluster::new().nodes(1).without_asterisk().build();
    let main = &cluster.main;
    let script = "source <(xds-sync completions bash)\n\
                  completed() {\n\
                      COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMP_LINE=\"$*\"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9\n\
                      spec=($(complete -p xds-sync)); fn=${spec[@]: -2:1}; COMPREPLY=()\n\
                      $fn xds-sync \"${@: -1}\" \"${@: -2:1}\"; echo ${COMPREPLY[@]}\n\
                  }\n\
                  completed xds-sync sync --node m\ncompleted xds-sync restore s\ncompleted xds-sync nodes che\n";
    assert_eq!(main.sh(script).ok(), "mds1\nsounds\ncheck\n");

    // A rotation that is not finished, and a directory that no node gets.
    main.sh("cp -a /root/.ssh/rsync_xds /root/.ssh/rsync_xds.old").ok();
    let config = main.read_text(CONFIG);
    main.write(
        CONFIG,
        format!("{config}\n[[directory]]\nname = \"lost\"\npath = \"/srv/lost\"\nlabels = [\"paris\"]\n"),
    );
    main.sh("mkdir -p /srv/lost").ok();
    let check = main.xds_sync(["nodes", "check"]);
    assert!(check.err().contains("the rotation of Main's key is not finished"), "{check:?}");
    let run = main.sync_json([""; 0]);
    assert!(
        run.json["problems"].to_string().contains("lost goes nowhere: no node has the label 'paris'"),
        "{run:?}"
    );

    let init = main.xds_sync(["init"]).text();
    let place = |line: &str| init.find(line).unwrap_or_else(|| panic!("{line:?} is not in {init}"));
    let join = place("on each node: xds-sync join main:8443 --fingerprint SHA256:");
    let install = place("on a node without xds-sync: cd /root && curl");
    let next = place("here: xds-sync nodes check; xds-sync sync -n; xds-sync sync");
    assert!(join < install && install < next, "{init}");
    main.write("/root/mds_install.sh", include_str!("../../scripts/mds_install.sh"));
    let help = main.sh("sh /root/mds_install.sh --help");
    assert!(help.text().contains("mds_install.sh [--binary FILE|URL]"), "{help:?}");
}
