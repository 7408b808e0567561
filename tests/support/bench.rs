//! Measures xds-sync against what it replaces, on hosts of the test bed in tmpfs; `scripts/bench` builds and
//! starts it. Every number is a ratio within one run: contenders take turns, and medians are compared.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[path = "mod.rs"]
mod support;

use std::time::Duration;

use support::{Cluster, Host};

const DIALPLAN: &str = "/etc/asterisk/extensions_extra.d";
const SOUNDS: &str = "/var/lib/xivo/sounds";
const DIRECTORIES: [&str; 4] =
    [DIALPLAN, "/var/lib/xivo/moh", "/var/lib/xivo/sounds", "/var/lib/xivo/sounds/recordings"];

struct Bench {
    cluster: Cluster,
    rounds: usize,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().expect("usage: bench PROGRAM [NODES [FILES [BYTES [ROUNDS]]]]");
    let mut number =
        |default: usize| arguments.next().map_or(default, |text| text.parse().expect("a number"));
    let (nodes, files, bytes, rounds) = (number(4), number(28_000), number(20_000), number(5));
    let cluster =
        Cluster::new().program(program).nodes(nodes).without_asterisk().more_config(NO_RELOADS).build();
    let bench = Bench { cluster, rounds };
    let main = &bench.cluster.main;
    main.write_settled(format!("{DIALPLAN}/10-doors.conf"), "[doors]\nexten => 7,1,Hangup()\n");
    fill(main, files, bytes);
    println!("{nodes} nodes, {files} files of {bytes} bytes, medians of {rounds} rounds\n");
    println!("| case | xds-sync | the script | ratio | bare ssh to all nodes |");
    println!("| --- | --- | --- | --- | --- |");

    bench.case("first copy", &|bench| bench.empty_nodes(), rounds.min(3));
    bench.case("nothing to do", &|_| {}, bench.rounds);
    bench.case(
        "one dialplan file changed",
        &|bench| {
            let main = &bench.cluster.main;
            main.sh(format!(
                "date +%N > {DIALPLAN}/20-lights.conf; touch -d '1 hour ago' {DIALPLAN}/20-lights.conf"
            ))
            .ok();
        },
        bench.rounds,
    );
}

/// The bed's hosts have no Asterisk here, for neither contender.
const NO_RELOADS: &str = r#"
[[directory]]
name = "dialplan"
path = "/etc/asterisk/extensions_extra.d"
[[directory]]
name = "moh"
path = "/var/lib/xivo/moh"
[[directory]]
name = "sounds"
path = "/var/lib/xivo/sounds"
[[directory]]
name = "recordings"
path = "/var/lib/xivo/sounds/recordings"
direction = "both"
"#;

fn fill(main: &Host, files: usize, bytes: usize) {
    let script = format!(
        "cd {SOUNDS} && head -c {bytes} /dev/urandom > /tmp/block && for d in $(seq 0 $((({files} - 1) / 1000))); do \
         mkdir d$d; for f in $(seq 0 999); do [ $((d * 1000 + f)) -lt {files} ] || break; \
         {{ echo $d/$f; cat /tmp/block; }} > d$d/f$f.wav; done; done; find . -exec touch -d '1 hour ago' {{}} +"
    );
    // A loop of cat takes some twenty seconds for 28,000 files; python, where it is, takes one.
    let quick = format!(
        "python3 - <<'PYTHON'\nimport os, time\nblock = os.urandom({bytes})\nold = time.time() - 3600\n\
         for n in range({files}):\n    d = '{SOUNDS}/d%d' % (n // 1000)\n    os.makedirs(d, exist_ok=True)\n    \
         p = d + '/f%d.wav' % (n % 1000)\n    open(p, 'wb').write(n.to_bytes(8, 'little') + block)\n    \
         os.utime(p, (old, old))\nPYTHON"
    );
    if !main.sh(quick).success() {
        main.sh(script).ok();
    }
}

impl Bench {
    /// Lets the contenders take turns at one case, each round after `prepare`, and prints a row.
    fn case(&self, name: &str, prepare: &dyn Fn(&Bench), rounds: usize) {
        let (mut ours, mut theirs, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            prepare(self);
            ours.push(self.cluster.main.xds_sync(["sync", "--quiet"]).took_ok());
            prepare(self);
            theirs.push(self.cluster.main.sh(self.script()).took_ok());
            bare.push(self.cluster.main.sh(self.bare_ssh()).took_ok());
            // The script knows nothing of bases: xds-sync settles what it left before it is timed again.
            self.cluster.main.xds_sync(["sync", "--quiet"]).ok();
        }
        let [ours, theirs, bare] = [ours, theirs, bare].map(median);
        println!(
            "| {name} | {ours:.2?} | {theirs:.2?} | {:.1}× | {bare:.2?} |",
            theirs.as_secs_f64() / ours.as_secs_f64()
        );
    }

    /// What the original does for each node, one after the other: a push of every directory, a pull of the
    /// recordings.
    fn script(&self) -> String {
        let ssh = "ssh -i /root/.ssh/rsync_xds -o BatchMode=yes -o StrictHostKeyChecking=accept-new";
        let mut script = "set -e\n".to_owned();
        for node in &self.cluster.nodes {
            for directory in DIRECTORIES {
                let outer = if directory == SOUNDS { "--exclude=/recordings" } else { "" };
                script += &format!(
                    "rsync -a --exclude='xds_override*' --exclude=/.xds-sync {outer} -e '{ssh}' {directory}/ {}:{directory}/\n",
                    node.address
                );
            }
            let recordings = DIRECTORIES[3];
            script += &format!(
                "rsync -a --exclude=/.xds-sync -e '{ssh}' {}:{recordings}/ {recordings}/\n",
                node.address
            );
        }
        script
    }

    fn bare_ssh(&self) -> String {
        let ssh = "ssh -i /root/.ssh/rsync_xds -o BatchMode=yes -o StrictHostKeyChecking=accept-new";
        self.cluster.nodes.iter().map(|node| format!("{ssh} {} true & ", node.address)).collect::<String>()
            + "wait"
    }

    fn empty_nodes(&self) {
        for node in &self.cluster.nodes {
            for directory in DIRECTORIES {
                node.sh(format!("mkdir -p {directory} && find {directory} -mindepth 1 -delete")).ok();
            }
        }
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

trait TookOk {
    /// How long a command took that must have succeeded.
    fn took_ok(&self) -> Duration;
}

impl TookOk for support::Output {
    fn took_ok(&self) -> Duration {
        assert!(self.success(), "{self:?}");
        self.took
    }
}
