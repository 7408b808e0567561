//! `XDS_FAULT=POINT[:N]=WHAT,…` makes a debug build end when it reaches a fail point for the N-th time (`kill`), lose
//! its connection there (`hang-up`), panic in that thread (`panic`), or see the step fail (an errno). A release build
//! ignores it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use rustix::process::{Signal, getpid, getppid, kill_process};

use crate::fault::{self, Point, Watch};
use crate::host;

struct Fault {
    point: Point,
    /// It happens when the point is reached for this time, counted from 1.
    nth: u64,
    met: AtomicU64,
    what: What,
}

enum What {
    Kill,
    HangUp,
    Panic,
    Fails(i32),
}

struct Faults(Vec<Fault>);

/// Does what the environment asks for.
pub(super) fn install() -> anyhow::Result<()> {
    if let Some(text) = host::variable("XDS_FAULT") {
        let text = text.to_string_lossy();
        let faults: Option<Vec<Fault>> = text.split(',').map(parse).collect();
        fault::install(Box::new(Faults(faults.with_context(|| format!("XDS_FAULT={text}"))?)));
    }
    Ok(())
}

fn parse(text: &str) -> Option<Fault> {
    let (at, what) = text.split_once('=')?;
    let (name, nth) = at.split_once(':').unwrap_or((at, "1"));
    let what = match what {
        "kill" => What::Kill,
        "hang-up" => What::HangUp,
        "panic" => What::Panic,
        errno => What::Fails(errno.parse().ok()?),
    };
    let point = Point::ALL.iter().chain(Point::OF_STORE).find(|point| point.name() == name)?;
    Some(Fault { point: *point, nth: nth.parse().ok()?, met: AtomicU64::new(0), what })
}

impl Watch for Faults {
    #[allow(clippy::panic)]
    fn reach(&self, point: Point) -> io::Result<()> {
        for fault in self.0.iter().filter(|fault| fault.point == point) {
            if fault.met.fetch_add(1, Ordering::Relaxed) + 1 != fault.nth {
                continue;
            }
            match fault.what {
                What::Kill => {
                    kill_process(getpid(), Signal::KILL)?;
                    loop {
                        std::thread::park();
                    }
                }
                What::HangUp => {
                    if let Some(session) = getppid() {
                        kill_process(session, Signal::KILL)?;
                    }
                }
                What::Panic => panic!("XDS_FAULT at {point}"),
                What::Fails(errno) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        let fault = parse("exchange:3=kill").unwrap();
        assert!((fault.point, fault.nth) == (Point::Exchange, 3) && matches!(fault.what, What::Kill));
        assert!(matches!(parse("agree=panic").unwrap().what, What::Panic));
        assert!(matches!(parse("mtime=28").unwrap().what, What::Fails(28)));
        for wrong in ["exchange", "nowhere=kill", "exchange=?", "exchange:x=kill"] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }
}
