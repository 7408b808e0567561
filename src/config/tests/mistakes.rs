//! What is wrong, where, and what to do about it.

use proptest::prelude::*;

use super::*;

fn mistakes(text: &str) -> String {
    Files::new(&[("config.toml", text)]).mistakes()
}

fn warnings(text: &str) -> String {
    Files::new(&[("config.toml", text)]).warnings()
}

macro_rules! mistake {
    ($($name:ident: $text:expr => $message:literal;)*) => {$(
        #[test]
        fn $name() {
            assert_eq!(mistakes($text), $message);
        }
    )*};
}

mistake! {
    none: "" => "";
    not_toml: "[sync]\nparallel = = 2" => "config.toml:2: not valid TOML: extra `=`, expected nothing";
    unknown_key: "[sync]\n\nparalel = 2" => "config.toml:3: unknown key sync.paralel (did you mean 'parallel'?)";
    unknown_section: "[snyc]\nparallel = 2" => "config.toml:1: unknown section [snyc] (did you mean 'sync'?)";
    no_section: "parallel = 2" => "config.toml:1: 'parallel' stands outside of any section; write it below the one it belongs to";
    one_bracket: "[node]\nname = \"x\"" => "config.toml:1: write [[node]], with two brackets";
    wrong_type: "[sync]\nparallel = \"many\"" => "config.toml:2: sync.parallel: expected a number, found a string";
    zero_parallel: "[sync]\nparallel = 0" => "config.toml:2: sync.parallel: expected a number from 1 to 1024";
    bad_duration: "[sync]\ntimeout = \"soon\"" => "config.toml:2: sync.timeout: expected a duration such as \"30s\" or \"15min\", found 'soon'";
    relative_path: "[ssh]\nidentity = \"key\"" => "config.toml:2: ssh.identity: expected an absolute path, found 'key'";
    bad_port: "[ssh]\nport = 0" => "config.toml:2: ssh.port: expected a port from 1 to 65535";
    bad_host_keys: "[ssh]\nhost_keys = \"no\"" => "config.toml:2: ssh.host_keys: expected one of \"accept-new\", \"strict\", found 'no'";
    bad_cron: "[schedule]\ncron = \"@hourly\"" => "config.toml:2: schedule.cron: expected five fields as in crontab(5), such as \"*/15 * * * *\", found '@hourly'";
    multi_line_option: "[ssh]\noptions = [\"A=b\\nC=d\"]" => "config.toml:2: ssh.options: must be one line";
    certificate_without_key: "[hub]\ncertificate = \"/a\"" => "config.toml:2: hub.certificate needs the key that belongs to it";
    node_without_address: "[[node]]\nname = \"a\"" => "config.toml:1: node.a.address is missing; add a line address = \"…\"";
    node_name: "[[node]]\nname = \"../a\"\naddress = \"a\"" => "config.toml:2: node.../a.name: a name has letters, digits, '.', '_' and '-' only, does not begin with '.' or '-', and has at most 64 of them, found '../a'";
    node_address: "[[node]]\nname = \"a\"\naddress = \"-oProxyCommand=x\"" => "config.toml:3: node.a.address: expected a host name or an IP address, found '-oProxyCommand=x'";
    node_twice: "[[node]]\nname = \"a\"\naddress = \"b\"\n[[node]]\nname = \"a\"\naddress = \"c\"" => "config.toml:5: there is a node 'a' already, at config.toml:2";
    address_twice: "[[node]]\nname = \"a\"\naddress = \"b\"\n[[node]]\nname = \"c\"\naddress = \"b\"" => "config.toml:6: node 'a' has the address b already";
    node_paths: "[[node]]\nname = \"a\"\naddress = \"b\"\npaths = { mho = \"/x\" }" => "config.toml:4: paths: there is no directory 'mho' (did you mean 'moh'?)";
    directory_without_path: "[[directory]]\nname = \"a\"" => "config.toml:1: directory.a.path is missing; add a line path = \"…\"";
    directory_path: "[[directory]]\nname = \"a\"\npath = \"x\"" => "config.toml:3: directory.a.path: expected an absolute path, found 'x'";
    directory_twice: "[[directory]]\nname = \"a\"\npath = \"/x\"\n[[directory]]\nname = \"a\"\npath = \"/y\"" => "config.toml:5: there is a directory 'a' already, at config.toml:2";
    same_root: "[[directory]]\nname = \"a\"\npath = \"/x\"\n[[directory]]\nname = \"b\"\npath = \"/x/\"\ndelete=\"keep\"" => "config.toml:6: directory 'a' has the path /x already";
    overlap: "[[directory]]\nname = \"a\"\npath = \"/x\"\n[[directory]]\nname = \"b\"\npath = \"/x/y\"" => "config.toml:6: /x/y overlaps directory 'a' (/x) under the same rules; configure only the outer one";
    bad_glob: "[[directory]]\nname = \"a\"\npath = \"/x\"\nexclude = [\"[\"]" => "config.toml:4: directory.a.exclude: not a valid pattern: exclude \"[\": unclosed character class; missing ']'";
    glob_of_the_host: "[[directory]]\nname = \"a\"\npath = \"/x\"\nexclude = [\"/x/tmp/\", \"/y/tmp\"]" => "config.toml:4: directory.a.exclude: '/x/tmp/' excludes nothing: '/' at the beginning is the directory's root; write '/tmp/'";
    glob_without_effect: "[[directory]]\nname = \"a\"\npath = \"/x\"\nexclude = [\"./tmp\"]" => "config.toml:4: directory.a.exclude: './tmp' excludes nothing: no path has '.' or nothing between two '/'; write '/tmp'";
    option_without_effect: "[ssh]\noptions = [\"StrictHostKeyChecking=no\"]" => "config.toml:2: ssh.options: 'StrictHostKeyChecking=no' has no effect: write ssh.host_keys; a changed key is refused in any case";
    option_twice: "[ssh]\noptions = [\"Ciphers=a\", \"Ciphers=b\"]" => "config.toml:2: ssh.options: 'Ciphers=b' has no effect: an earlier value of the same option counts";
    long_state_dir: "[sync]\nstate_dir = \"/0123456789/0123456789/0123456789/0123456789/0123456789/0123\"" => "config.toml:2: sync.state_dir: a path of 60 bytes, more than 57: no control socket of ssh fits below it";
    key_twice: "[sync]\nparallel = 2\nparallel = 3" => "config.toml:3: not valid TOML: duplicate key: parallel is written twice";
    section_twice: "[sync]\nparallel = 2\n[sync]\ntimeout = \"1s\"" => "config.toml:3: not valid TOML: duplicate key: sync is written twice";
    one_bracket_after_two: "[[node]]\nname = \"a\"\naddress = \"a\"\n[node]\nname = \"b\"\naddress = \"b\"" => "config.toml:4: write [[node]], with two brackets";
    no_value: "[sync]\nparallel =\ntimeout = \"1s\"" => "config.toml:2: not valid TOML: parallel has no value; write parallel = …";
    main_as_node: "[main]\nhost = \"pbx.example.org\"\n[[node]]\nname = \"a\"\naddress = \"PBX.example.org\"" => "config.toml:5: node.a.address: PBX.example.org is Main itself (main.host); Main is no node";
    reload_command: "[[directory]]\nname = \"a\"\npath = \"/x\"\nreload = [\"asterisk -rx x\"]" => "config.toml:4: directory.a.reload: expected the name of a reload such as \"dialplan\", not a command, found 'asterisk -rx x'";
    max_delete: "[[directory]]\nname = \"a\"\npath = \"/x\"\nmax_delete = \"lots\"" => "config.toml:4: directory.a.max_delete: expected a percentage such as \"50%\" or a number of files such as \"200\"";
    bad_owner: "[[directory]]\nname = \"a\"\npath = \"/x\"\nowner = \"asterisk\"" => "config.toml:4: directory.a.owner: expected \"user:group\" such as \"asterisk:www-data\", found 'asterisk'";
    discovery_url: "[discovery]\nhttp = { url = \"ftp://x\" }" => "config.toml:2: discovery.http.url: expected a URL that begins with https:// or http://";
    discovery_url_is_not_repeated: "[discovery]\npostgres = { url = \"mysql://u:secret@db/x\" }" => "config.toml:2: discovery.postgres.url: expected a URL such as \"postgresql://user@host/asterisk\"";
    json_pointer: "[discovery]\nhttp = { url = \"https://x\", items = \"items\" }" => "config.toml:2: discovery.http.items: expected a JSON pointer such as \"/items\", found 'items'";
    empty_unknown_section: "\n[snyc]" => "config.toml:2: unknown section [snyc] (did you mean 'sync'?)";
    unknown_list: "[[nodes]]\nname = \"a\"" => "config.toml:1: unknown section [nodes] (did you mean 'node'?)";
    two_brackets: "[[sync]]\nparallel = 2" => "config.toml:1: write [sync], with one bracket, and its keys below";
    section_as_key: "sync = 2" => "config.toml:1: write [sync], with one bracket, and its keys below";
    long_timeout: "[sync]\ntimeout = \"500000000000y\"" => "config.toml:2: sync.timeout: must be at most \"1day\"";
    bad_bandwidth: "[sync]\nbandwidth = \"4\"" => "config.toml:2: sync.bandwidth: expected \"unlimited\" or a rate such as \"4 MiB/s\", found '4'";
    bad_traffic_class: "[sync]\ntraffic_class = \"300\"" => "config.toml:2: sync.traffic_class: expected what ssh's IPQoS knows, such as \"cs1\", \"none\" or a number from 0 to 255, found '300'";
    cron_field: "[schedule]\ncron = \"0 3 ? * *\"" => "config.toml:2: schedule.cron: expected *, 1-31, a list or */STEP as the day of month, as in crontab(5), found '?'";
    no_option: "[ssh]\noptions = [\"ProxyJump\"]" => "config.toml:2: ssh.options: expected an option of ssh_config(5) such as \"ProxyJump=gate\", found 'ProxyJump'";
    hub_port: "[hub]\nlisten = \"127.0.0.1:0\"" => "config.toml:2: hub.listen: expected ADDRESS:PORT such as \"127.0.0.1:8443\", found '127.0.0.1:0'";
    whole_host: "[[directory]]\nname = \"a\"\npath = \"/\"" => "config.toml:3: directory.a.path: a whole host cannot be synchronised; name a directory below /";
    home_as_root: "[[directory]]\nname = \"a\"\npath = \"~/x\"" => "config.toml:3: directory.a.path: expected an absolute path, found '~/x'";
    owner_by_number: "[[directory]]\nname = \"a\"\npath = \"/x\"\nowner = \"1000:1000\"" => "config.toml:4: directory.a.owner: expected \"user:group\" such as \"asterisk:www-data\", found '1000:1000'";
    node_called_main: "[[node]]\nname = \"main\"\naddress = \"b\"" => "config.toml:2: node.main.name: 'main' is Main; give the node another name";
    node_called_as_main_is: "[[node]]\nname = \"pbx\"\naddress = \"b\"" => "config.toml:2: node.pbx.name: 'pbx' is Main; give the node another name";
    address_twice_otherwise_written: "[[node]]\nname = \"a\"\naddress = \"B\"\n[[node]]\nname = \"c\"\naddress = \"b\"\nport = 22" => "config.toml:6: node 'a' has the address b already";
    another_port_is_another_node: "[[node]]\nname = \"a\"\naddress = \"b\"\n[[node]]\nname = \"c\"\naddress = \"b\"\nport = 23" => "";
    same_root_on_a_node: "[[node]]\nname = \"a\"\naddress = \"b\"\n[node.paths]\nmoh = \"/s\"\nsounds = \"/s/\"" => "config.toml:6: node.a.paths.sounds: directory 'moh' has the path /s already";
    root_of_another_on_a_node: "[[node]]\nname = \"a\"\naddress = \"b\"\npaths = { moh = \"/var/lib/xivo/sounds\" }" => "config.toml:4: node.a.paths.moh: directory 'sounds' has the path /var/lib/xivo/sounds already";
    relative_paths_of_a_node: "[[node]]\nname = \"a\"\naddress = \"b\"\n[node.paths]\nmoh = \"s\"\nsounds = 3" => "config.toml:5: node.a.paths.moh: expected an absolute path, found 's'\nconfig.toml:6: node.a.paths.sounds: expected a string in quotes, found a number";
    control_bytes: "[main]\nname = \"\\u001b[31m\"" => "config.toml:2: main.name: a name has letters, digits, '.', '_' and '-' only, does not begin with '.' or '-', and has at most 64 of them, found '\\x1b[31m'";
    discovery_table: "[discovery]\npostgres = 3" => "config.toml:2: discovery.postgres: expected a table such as { … }, found a number";
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "[sync]\nparallel = 0\ntimout = \"1s\"\n[[node]]\nname = \"a\"\n[[directory]]\npath = \"x\"";
    insta::assert_snapshot!(mistakes(text), @r#"
    config.toml:2: sync.parallel: expected a number from 1 to 1024
    config.toml:3: unknown key sync.timout (did you mean 'timeout'?)
    config.toml:4: node.a.address is missing; add a line address = "…"
    config.toml:6: directory.name is missing; add a line name = "…"
    config.toml:7: directory.path: expected an absolute path, found 'x'
    "#);
}

#[test]
fn each_item_of_a_list_is_told_with_its_line() {
    let text =
        "[[directory]]\nname = \"a\"\npath = \"/x\"\nexclude = [\n  \"[\",\n  \"*.bak\",\n  \"/\",\n  3,\n]";
    insta::assert_snapshot!(mistakes(text), @r#"
    config.toml:5: directory.a.exclude: not a valid pattern: exclude "[": unclosed character class; missing ']'
    config.toml:7: directory.a.exclude: expected a pattern such as "*.bak", found '/'
    config.toml:8: directory.a.exclude: expected a string in quotes, found a number
    "#);
}

#[test]
fn a_mistake_in_a_directory_is_not_one_of_the_nodes_too() {
    let text = "[[node]]\nname = \"a\"\naddress = \"b\"\npaths = { moh = \"/x\" }\n[[directory]]\nname = \"moh\"\npath = \"y\"";
    assert_eq!(mistakes(text), "config.toml:7: directory.moh.path: expected an absolute path, found 'y'");
}

#[test]
fn roots_that_only_nodes_of_different_labels_share_are_no_mistake() {
    let text = "[[node]]\nname = \"a\"\naddress = \"a\"\nlabels = [\"paris\"]\npaths = { p = \"/s\", l = \"/s\" }\n\
                [[directory]]\nname = \"p\"\npath = \"/p\"\nlabels = [\"paris\"]\n\
                [[directory]]\nname = \"l\"\npath = \"/l\"\nlabels = [\"lyon\"]";
    assert_eq!(mistakes(text), "");
}

#[test]
fn files_come_in_their_order_then_the_environment() {
    let files = Files::new(&[
        ("config.toml", "[sync]\nparallel = 0"),
        ("conf.d/a.toml", "[sync]\nx = 1"),
        ("conf.d/b.toml", "= 1"),
        ("conf.d/c.toml", "[ssh]\nport = 0"),
    ]);
    let mut sources = files.sources();
    sources.env = vec![("XDS_SYNC_SSH_USER".to_owned(), "a b".to_owned())];
    let mistakes = files.plain(&load(&sources).unwrap_err().to_string());
    insta::assert_snapshot!(mistakes, @r"
    config.toml:2: sync.parallel: expected a number from 1 to 1024
    conf.d/a.toml:2: unknown key sync.x
    conf.d/b.toml:1: not valid TOML: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`
    conf.d/c.toml:2: ssh.port: expected a port from 1 to 65535
    XDS_SYNC_SSH_USER: ssh.user: expected a user's name, found 'a b'
    ");
}

#[test]
fn a_host_without_a_usable_name_needs_one() {
    let files = Files::new(&[("config.toml", "")]);
    let nameless = Sources { host_name: "(none)".to_owned(), ..files.sources() };
    insta::assert_snapshot!(files.plain(&load(&nameless).unwrap_err().to_string()), @r#"
    config.toml:1: main.name is missing, and this host's name '(none)' cannot serve; add a line name = "…"
    config.toml:1: main.host is missing, and this host's name '(none)' cannot serve; add a line host = "…"
    "#);
    let named = Files::new(&[("config.toml", "[main]\nname = \"m\"\nhost = \"m\"")]);
    assert!(load(&Sources { host_name: "(none)".to_owned(), ..named.sources() }).is_ok());
}

#[test]
fn what_does_nothing_is_warned_of() {
    let node = "[[node]]\nname = \"a\"\naddress = \"a\"\nlabels = [\"paris\"]\n";
    let directory = "[[directory]]\nname = \"d\"\npath = \"/d\"\n";
    for (text, warning) in [
        (
            format!("{node}{directory}labels = [\"pariss\"]"),
            "config.toml:8: directory.d.labels: no node has the label 'pariss' (did you mean 'paris'?)",
        ),
        (format!("{node}{directory}labels = [\"paris\"]"), ""),
        // The nodes may still be added.
        (format!("{directory}labels = [\"pariss\"]"), ""),
        (
            format!("{directory}direction = \"both\"\ndelete = \"mirror\""),
            "config.toml:5: directory.d.delete: \"mirror\" is for pushed directories; both ways it is as \"propagate\"",
        ),
        (
            format!("{directory}conflict = \"manual\""),
            "config.toml:4: directory.d.conflict: a pushed directory has no conflicts; Main's version goes to the nodes",
        ),
        (format!("{directory}direction = \"both\"\nconflict = \"manual\""), ""),
    ] {
        assert_eq!(warnings(&text), warning, "{text}");
    }
}

proptest! {
    /// Whatever somebody types, each mistake is one line that names a place.
    #[test]
    fn any_value_of_any_key(
        section in prop::sample::select(vec!["[main]", "[ssh]", "[sync]", "[schedule]", "[hub]", "[discovery]",
            "[discovery.postgres]", "[discovery.http]", "[[node]]", "[[directory]]"]),
        key in prop::sample::select(vec!["name", "host", "port", "options", "timeout", "bandwidth", "cron", "listen",
            "url", "query", "address", "paths", "path", "exclude", "settle", "owner", "max_delete"]),
        text in any::<String>(),
        form in 0..4,
    ) {
        let text = toml_edit::Value::from(text);
        let value = match form {
            0 => text.to_string(),
            1 => format!("[{text}, 3, true]"),
            2 => format!("{{ {key} = {text} }}"),
            _ => "-9223372036854775808".to_owned(),
        };
        for line in mistakes(&format!("{section}\n{key} = {value}\n")).lines() {
            prop_assert!(line.starts_with("config.toml:"), "{line}");
        }
    }

    #[test]
    fn any_text(text in any::<String>()) {
        for line in mistakes(&text).lines() {
            prop_assert!(line.starts_with("config.toml:"), "{line}");
        }
    }
}
