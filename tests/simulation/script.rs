//! What happens in a simulated cluster: made from a seed, and made shorter once it has failed.

use xds_sync::fault::Point;

use super::random::Random;

/// A cluster and its history.
#[derive(Clone, Debug)]
pub struct Script {
    pub nodes: usize,
    pub setup: Setup,
    /// It is played once more, with nodes in the opposite order.
    pub twice: bool,
    pub steps: Vec<Step>,
}

/// What the administrator has configured.
#[derive(Clone, Debug)]
pub struct Setup {
    pub push_delete: &'static str,
    pub both_delete: &'static str,
    pub conflict: &'static str,
    pub max_delete: &'static str,
    /// Recordings lie in the pushed directory, and are carved out of it while they are a directory of their own.
    pub nested: bool,
    /// Recordings are a configured directory.
    pub recordings: bool,
    /// `*.bak` is excluded.
    pub bak_excluded: bool,
    pub parallel: usize,
    /// Its filesystems know `RENAME_EXCHANGE`.
    pub exchange: bool,
}

impl Setup {
    /// The directories that are configured.
    pub fn directories(&self) -> &'static [usize] {
        if self.recordings { &[PUSH, BOTH] } else { &[PUSH] }
    }

    /// What of a directory's root belongs to another directory.
    pub fn carved(&self, dir: usize) -> Option<&'static str> {
        (dir == PUSH && self.nested && self.recordings).then_some("rec")
    }

    pub fn is_excluded(&self, path: &str) -> bool {
        path.split('/')
            .any(|name| name.starts_with("xds_override") || (self.bak_excluded && name.ends_with(".bak")))
    }
}

/// The two directories of a cluster.
pub const PUSH: usize = 0;
pub const BOTH: usize = 1;

#[derive(Clone, Debug)]
pub enum Step {
    /// An administrator, or a program, changes files on a host.
    Change {
        host: usize,
        dir: usize,
        op: Op,
    },
    /// Time passes.
    Wait {
        seconds: u64,
    },
    Run(Run),
    /// The daemon does what is due; the first run of it is this one. Nodes that are away are away for all of them.
    Turn(Run),
    /// The daemon, until nothing is due: then a full run finds nothing to do.
    Settle,
    /// The administrator changes the configuration.
    Configure(Setting),
    /// All nodes are there and nothing fails, until nothing is left to do.
    Converge,
    /// A node's disks are copied.
    Image {
        node: usize,
    },
    /// The copy takes the place of what the node has.
    Restore {
        node: usize,
    },
    /// A new, empty disk stands where a node's directory was.
    NewDisk {
        node: usize,
        dir: usize,
    },
    /// One run meets Main without a directory.
    Unmounted {
        dir: usize,
    },
    /// This content, or nothing, stands at a path of every host.
    Stands {
        dir: usize,
        path: &'static str,
        content: Option<u32>,
    },
    /// This content stands at a path of a host.
    StandsOn {
        host: usize,
        dir: usize,
        path: &'static str,
        content: u32,
    },
    /// Main's memory of an edge is damaged.
    DamagedBase {
        node: usize,
        dir: usize,
    },
}

/// One line of the configuration, and what it becomes.
#[derive(Clone, Copy, Debug)]
pub enum Setting {
    PushDelete(&'static str),
    BothDelete(&'static str),
    /// The section `[[directory]]` of recordings is there, or not.
    Recordings(bool),
    BakExcluded(bool),
}

#[derive(Clone, Debug)]
pub enum Op {
    Write {
        path: &'static str,
        content: u32,
    },
    Delete {
        path: &'static str,
    },
    Rename {
        from: &'static str,
        to: &'static str,
    },
    Touch {
        path: &'static str,
    },
    Chmod {
        path: &'static str,
        mode: u32,
    },
    Link {
        path: &'static str,
        target: &'static str,
    },
    /// More files than the delete guard lets go unasked.
    Fill {
        first: u32,
    },
    Empty,
}

/// A run and what goes wrong in it.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Whose nodes do not answer.
    pub away: Vec<usize>,
    /// In which order they answer.
    pub order: Vec<usize>,
    /// A dry run comes first, and must say what this one does.
    pub dry_first: bool,
    pub faults: Vec<Fault>,
    /// After so many bytes in either direction a node's connection is gone.
    pub cuts: Vec<(usize, i64)>,
    /// Nodes whose lines let few bytes through at a time, and how many milliseconds each of these takes.
    pub slow: Vec<(usize, u64)>,
    /// A node that says nothing more after so many bytes, until the daemon has nothing else left to do. The run is then one
    /// of several at the same time.
    pub silent: Option<(usize, i64)>,
    /// What people change while it is silent: host, directory and what.
    pub meanwhile: Vec<(usize, usize, Op)>,
}

/// Something that happens at a host's nth time at a point.
#[derive(Clone, Debug)]
pub struct Fault {
    /// 0 is Main.
    pub host: usize,
    pub point: Point,
    pub nth: usize,
    pub act: Act,
}

#[derive(Clone, Debug)]
pub enum Act {
    /// The process is killed.
    Crash,
    /// The machine loses its power: what was written and not brought to disk is lost.
    PowerCut,
    /// The step fails with this errno.
    Fails(i32),
    /// Somebody changes a file just then.
    Change { dir: usize, op: Op },
}

/// `e` and `e/a` cannot both be: one of them is a file where the other needs a directory.
const PATHS: [&str; 13] = [
    "a",
    "b",
    "c",
    "d/a",
    "d/b",
    "d/e/a",
    "d/e/b",
    "e",
    "e/a",
    "e/b",
    "x.bak",
    "xds_override.conf",
    "d/k.bak",
];
/// Directories, and names that nothing is written to directly.
const MORE_PATHS: [&str; 4] = ["d", "d/e", "g", "d/xds_override_x"];
const TARGETS: [&str; 3] = ["a", "d/a", "../../../out"];

struct Maker {
    random: Random,
    nodes: usize,
    contents: u32,
}

impl Script {
    pub fn new(seed: u64) -> Script {
        let mut random = Random::new(seed);
        let nodes = 2 + random.below(3);
        let setup = Setup {
            push_delete: random.pick(&["propagate", "propagate", "keep", "mirror"]),
            both_delete: random.pick(&["propagate", "propagate", "propagate", "keep"]),
            conflict: random.pick(&["main", "main", "newer"]),
            max_delete: random.pick(&["50%", "50%", "3"]),
            nested: random.chance(50),
            recordings: true,
            bak_excluded: true,
            parallel: random.pick(&[8, 8, 1]),
            exchange: random.chance(80),
        };
        // Half of all histories are of good times: then more is known about how they must end.
        let calm = random.chance(40);
        // In some of them a daemon lives.
        let with_daemon = random.chance(40);
        let twice = random.chance(30);
        let mut maker = Maker { random, nodes, contents: 0 };
        let mut steps = Vec::new();
        for _ in 0..2 + maker.random.below(6) {
            steps.push(maker.change());
        }
        steps.push(Step::Converge);
        for _ in 0..2 + maker.random.below(3) {
            for _ in 0..1 + maker.random.below(5) {
                steps.push(maker.change());
                if maker.random.chance(85) {
                    steps.push(Step::Wait { seconds: 3 + maker.random.below(60) as u64 });
                }
            }
            if maker.random.chance(25) {
                steps.push(Step::Configure(maker.setting()));
            }
            if calm {
                if maker.random.chance(40) {
                    steps.push(maker.run(true));
                }
            } else {
                maker.trouble(&mut steps);
            }
            if with_daemon && maker.random.chance(60) {
                steps.push(Step::Settle);
            }
            if maker.random.chance(70) {
                steps.push(Step::Converge);
            }
        }
        if with_daemon {
            maker.let_the_daemon_run(&mut steps);
        }
        Script { nodes, setup, twice, steps }
    }

    /// Whether it is all about who changed what: nothing fails, and the order in which nodes answer can be set.
    pub fn is_about_order(&self) -> bool {
        let good = |step: &Step| match step {
            Step::Run(run) => run.faults.is_empty() && run.cuts.is_empty() && run.slow.is_empty(),
            Step::Change { .. } | Step::Wait { .. } | Step::Converge | Step::Stands { .. } => true,
            _ => false,
        };
        self.twice && self.nodes > 2 && self.setup.parallel >= self.nodes && self.steps.iter().all(good)
    }

    /// Scripts with one step, fault or cut less.
    pub fn shorter(&self) -> Vec<Script> {
        let mut all = Vec::new();
        let with = |steps: Vec<Step>| Script { steps, ..self.clone() };
        let count = self.steps.len();
        for half in [count / 2, count / 4, 1] {
            for start in (0..count).step_by(half.max(1)) {
                let mut steps = self.steps.clone();
                steps.drain(start..(start + half.max(1)).min(count));
                all.push(with(steps));
            }
        }
        for (at, step) in self.steps.iter().enumerate() {
            let (Step::Run(run) | Step::Turn(run)) = step else { continue };
            let mut simpler = Vec::new();
            for fault in 0..run.faults.len() {
                let mut run = run.clone();
                run.faults.remove(fault);
                simpler.push(run);
            }
            for cut in 0..run.cuts.len() {
                let mut run = run.clone();
                run.cuts.remove(cut);
                simpler.push(run);
            }
            for slow in 0..run.slow.len() {
                let mut run = run.clone();
                run.slow.remove(slow);
                simpler.push(run);
            }
            if run.silent.is_some() {
                simpler.push(Run { silent: None, ..run.clone() });
            }
            for meanwhile in 0..run.meanwhile.len() {
                let mut run = run.clone();
                run.meanwhile.remove(meanwhile);
                simpler.push(run);
            }
            for away in 0..run.away.len() {
                let mut run = run.clone();
                run.away.remove(away);
                simpler.push(run);
            }
            for run in simpler {
                let mut steps = self.steps.clone();
                steps[at] = if matches!(step, Step::Turn(_)) { Step::Turn(run) } else { Step::Run(run) };
                all.push(with(steps));
            }
        }
        all
    }
}

impl Maker {
    fn content(&mut self) -> u32 {
        // Some files are copies of others.
        if self.contents > 0 && self.random.chance(12) {
            return 1 + u32::try_from(self.random.below(self.contents as usize)).unwrap();
        }
        self.contents += 1;
        self.contents
    }

    fn path(&mut self) -> &'static str {
        self.random.pick(&PATHS)
    }

    fn any_path(&mut self) -> &'static str {
        if self.random.chance(20) { self.random.pick(&MORE_PATHS) } else { self.path() }
    }

    fn op(&mut self) -> Op {
        match self.random.below(100) {
            0..45 => Op::Write { path: self.path(), content: self.content() },
            45..63 => Op::Delete { path: self.any_path() },
            63..78 => Op::Rename { from: self.any_path(), to: self.any_path() },
            78..83 => Op::Touch { path: self.path() },
            83..88 => Op::Chmod { path: self.any_path(), mode: self.random.pick(&[0o600, 0o644, 0o755]) },
            88..92 => Op::Link { path: self.path(), target: self.random.pick(&TARGETS) },
            92..97 => {
                let first = self.contents + 1;
                self.contents += 20;
                Op::Fill { first }
            }
            _ => Op::Empty,
        }
    }

    fn change(&mut self) -> Step {
        let (host, dir, op) = self.edit();
        Step::Change { host, dir, op }
    }

    fn edit(&mut self) -> (usize, usize, Op) {
        let dir = self.random.below(2);
        // Pushed files are edited on Main, recordings come from everywhere.
        let host = match dir {
            PUSH if self.random.chance(80) => 0,
            _ => self.random.below(self.nodes + 1),
        };
        (host, dir, self.op())
    }

    fn setting(&mut self) -> Setting {
        match self.random.below(4) {
            0 => Setting::PushDelete(self.random.pick(&["propagate", "keep", "mirror"])),
            1 => Setting::BothDelete(self.random.pick(&["propagate", "keep"])),
            2 => Setting::Recordings(self.random.chance(50)),
            _ => Setting::BakExcluded(self.random.chance(50)),
        }
    }

    fn run(&mut self, calm: bool) -> Step {
        let mut run = Run { order: self.random.shuffled(self.nodes), ..Run::default() };
        for node in 1..=self.nodes {
            if self.random.chance(20) {
                run.away.push(node);
            }
        }
        if calm {
            run.dry_first = self.random.chance(50);
            return Step::Run(run);
        }
        if self.random.chance(30) {
            run.slow.push((1 + self.random.below(self.nodes), self.random.pick(&[1, 20, 500])));
        }
        for _ in 0..self.random.below(3) {
            run.faults.push(self.fault());
        }
        if self.random.chance(35) {
            let reach = self.random.pick(&[400, 4_000, 40_000]);
            run.cuts.push((1 + self.random.below(self.nodes), self.random.below(reach) as i64));
        }
        Step::Run(run)
    }

    /// Most runs are the daemon's; the others are processes of their own beside it.
    fn let_the_daemon_run(&mut self, steps: &mut [Step]) {
        for step in steps {
            if let Step::Run(run) = step
                && self.random.chance(75)
            {
                let mut run = Run { dry_first: false, ..run.clone() };
                if self.random.chance(60) {
                    let reach = self.random.pick(&[1, 1_000, 10_000]);
                    run.silent = Some((1 + self.random.below(self.nodes), self.random.below(reach) as i64));
                    run.meanwhile = (0..self.random.below(4)).map(|_| self.edit()).collect();
                }
                *step = Step::Turn(run);
            }
        }
    }

    fn fault(&mut self) -> Fault {
        let act = match self.random.below(100) {
            0..40 => Act::Crash,
            40..55 => Act::PowerCut,
            55..80 => Act::Fails(self.random.pick(&[5, 28])),
            _ => Act::Change { dir: self.random.below(2), op: self.op() },
        };
        let nth = if self.random.chance(50) { 1 } else { 1 + self.random.below(12) };
        Fault { host: self.random.below(self.nodes + 1), point: self.random.pick(Point::ALL), nth, act }
    }

    fn trouble(&mut self, steps: &mut Vec<Step>) {
        let node = 1 + self.random.below(self.nodes);
        let dir = self.random.below(2);
        match self.random.below(100) {
            0..70 => {
                for _ in 0..1 + self.random.below(3) {
                    steps.push(self.run(false));
                    if self.random.chance(40) {
                        steps.push(self.change());
                    }
                }
            }
            70..80 => {
                steps.push(Step::Image { node });
                for _ in 0..3 {
                    steps.push(self.change());
                    steps.push(Step::Wait { seconds: 5 });
                }
                steps.push(if self.random.chance(50) { Step::Converge } else { self.run(false) });
                steps.push(Step::Restore { node });
            }
            80..87 => steps.push(Step::NewDisk { node, dir }),
            87..94 => steps.push(Step::Unmounted { dir }),
            _ => steps.push(Step::DamagedBase { node, dir }),
        }
    }
}
