//! A tour of xds-sync on this machine: Main and two media servers of the test bed, and what an administrator
//! would type on them. `scripts/demo` builds and starts it.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::print_stderr, missing_docs)]

#[path = "mod.rs"]
mod support;

use std::io::IsTerminal;

use support::{Cluster, Host, LIMIT, eventually, wav};

const DIALPLAN: &str = "/etc/asterisk/extensions_extra.d";
const MUSIC: &str = "/var/lib/xivo/moh/default";
const SOUNDS: &str = "/var/lib/xivo/sounds";

fn main() {
    let program = std::env::args_os().nth(1).expect("usage: demo PROGRAM");
    let tour = Tour { color: std::io::stdout().is_terminal() };

    tour.chapter("Main and two media servers, with sshd, syslog and Asterisk, are being started ...");
    let cluster = Cluster::new().node("mds1").node("mds2").xivo_links().program(program).build();
    let (main, mds1) = (&cluster.main, &cluster["mds1"]);
    furnish(&cluster);
    tour.type_in(main, "cat /etc/xds-sync/config.toml");
    tour.type_in(main, &format!("ls -R {DIALPLAN} {MUSIC} {SOUNDS}/en"));

    tour.chapter("Once: a key pair, markers and a cron job");
    tour.type_in(main, "xds-sync init");

    tour.chapter("What would be done? Nothing is touched by asking");
    tour.type_in(main, "xds-sync sync -n");

    tour.chapter("The first run: files in place, then Asterisk reloaded where something changed");
    tour.type_in(main, "xds-sync sync");
    tour.type_in(mds1, "asterisk -rx 'dialplan show doors'");
    tour.type_in(mds1, "asterisk -rx 'moh show files'");
    tour.type_in(mds1, "grep . /etc/asterisk/extensions_extra.d/*");

    tour.chapter("The second run has nothing to do");
    tour.type_in(main, "xds-sync sync");

    tour.chapter("A caller has recorded an announcement on mds1; it comes to Main and goes to mds2");
    mds1.write_settled(format!("{SOUNDS}/recordings/4021-1767322245.wav"), wav(16000));
    tour.type_in(mds1, &format!("ls -l {SOUNDS}/recordings/"));
    tour.type_in(main, "xds-sync sync");
    tour.type_in(&cluster["mds2"], &format!("ls -l {SOUNDS}/recordings/"));

    tour.chapter(
        "It is deleted on Main, once, and does not come back; the media servers' trash keeps it for 30 days",
    );
    tour.type_in(main, &format!("rm {SOUNDS}/recordings/4021-1767322245.wav"));
    tour.type_in(main, "xds-sync sync");

    tour.chapter("mds2 falls silent while a dialplan file is changed: mds1 is served all the same");
    cluster.cut("mds2");
    tour.type_in(main, &format!("echo ' same => n,Hangup()' >> {DIALPLAN}/10-doors.conf"));
    tour.type_in_and_fail(main, "xds-sync sync", SOME_UNREACHABLE);
    tour.type_in_and_fail(main, "xds-sync status", SOME_UNREACHABLE);

    tour.chapter("mds2 is back, and catches up");
    cluster.mend("mds2");
    tour.type_in(main, "xds-sync sync");
    tour.type_in(main, "xds-sync status");

    tour.chapter("All of it is in the system log");
    let is_logged = || main.syslog().iter().any(|line| line.contains("xivo-xds-sync"));
    eventually("the runs to be in the system log", LIMIT, is_logged);
    tour.type_in(main, "grep xivo-xds-sync /var/log/syslog | tail --lines=12");

    tour.chapter("That was all; the three hosts are gone again");
}

/// What an administrator has on Main, and on a media server alone.
fn furnish(cluster: &Cluster) {
    let main = &cluster.main;
    main.write_settled(format!("{DIALPLAN}/10-doors.conf"), "[doors]\nexten => 700,1,Answer()\n");
    main.write_settled(format!("{DIALPLAN}/20-lights.conf"), "[lights]\nexten => 800,1,NoOp(lights)\n");
    main.write_settled(format!("{MUSIC}/waltz.wav"), wav(80_000));
    main.write_settled(format!("{MUSIC}/tango.wav"), wav(80_000));
    main.write_settled(format!("{SOUNDS}/en/closed.wav"), wav(12_000));
    // Main must not wait half a minute for a silent node while somebody is watching.
    let config = main.read_text("/etc/xds-sync/config.toml");
    main.write("/etc/xds-sync/config.toml", format!("{}\n\n[sync]\ntimeout = \"3s\"\n", config.trim_end()));
    cluster["mds1"]
        .write_settled(format!("{DIALPLAN}/30-paris.conf"), "[paris]\nexten => 1,1,NoOp(of mds1 alone)\n");
}

/// The exit code when some nodes, not all, could not be reached.
const SOME_UNREACHABLE: i32 = 40;

struct Tour {
    color: bool,
}

impl Tour {
    fn chapter(&self, title: &str) {
        println!("\n{}\n", self.paint("1", &format!("# {title}")));
    }

    /// Shows a command, runs it, and shows what it printed. The tour ends where one fails that should not.
    fn type_in(&self, host: &Host, command: &str) {
        self.type_in_and_fail(host, command, 0);
    }

    /// The same for a command that has to end with this exit code.
    fn type_in_and_fail(&self, host: &Host, command: &str, code: i32) {
        println!("{}{command}", self.paint("32", &format!("root@{}:~# ", host.name)));
        // As on a terminal, both streams in the order in which they were written.
        let output = host.sh(format!("{{ {command}\n}} 2>&1"));
        print!("{}", output.text());
        if output.code != 0 {
            println!("{}", self.paint("33", &format!("(exit code {})", output.code)));
        }
        println!();
        output.exits(code);
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
