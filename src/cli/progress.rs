//! What a run is doing, on the terminal of whoever waits for it: a row for each host that is not done, and one for all.
//!
//! What is shown follows from what was told and from the time, see [`board`]. It is drawn a few times a second, so that it
//! goes on while nothing is told; and nothing of it stays.

mod board;
mod narrow;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use crate::sync::{Phase, Progress};
use board::Board;
use narrow::Narrow;

/// How often it is drawn. The first time is after as long: a run that is over by then shows nothing.
const PERIOD: Duration = Duration::from_millis(250);
/// Most redraws in a second.
const REDRAWS: u8 = 20;
/// Of a terminal that does not say.
const WIDTH: usize = 80;
const HEIGHT: usize = 24;

/// What is on the screen now: whoever prints beside it goes through [`beside`].
static SCREEN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Prints something on stderr, above what is shown there.
pub(super) fn beside(print: impl FnOnce()) {
    let screen = SCREEN.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match screen {
        Some(screen) => screen.suspend(print),
        None => print(),
    }
}

/// The progress of a run on stderr.
pub(super) struct Live {
    board: Arc<Mutex<Board>>,
    begun: Instant,
    /// Dropped, it ends the thread that draws.
    end: Option<Sender<()>>,
    drawing: Option<JoinHandle<()>>,
}

impl Live {
    /// Begins to draw. `stop` is set when the run is to end.
    pub(super) fn new(stop: Arc<AtomicBool>) -> Live {
        let board = Arc::new(Mutex::new(Board::default()));
        let begun = Instant::now();
        let (end, ended) = channel();
        let shown = Arc::clone(&board);
        let drawing = thread::spawn(move || {
            let mut screen = None;
            while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                let screen = screen.get_or_insert_with(|| Screen::new(Term::buffered_stderr(), REDRAWS));
                let (width, height) = size();
                let board = shown.lock().unwrap_or_else(PoisonError::into_inner);
                let rows = board.rows(begun.elapsed(), width, height, stop.load(Ordering::Relaxed));
                drop(board);
                screen.show(&rows);
            }
        });
        Live { board, begun, end: Some(end), drawing: Some(drawing) }
    }

    fn tell(&self, tell: impl FnOnce(&mut Board, Duration)) {
        let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
        tell(&mut board, self.begun.elapsed());
    }
}

impl Progress for Live {
    fn at(&self, host: &str, phase: Phase) {
        self.tell(|board, now| board.at(host, phase, now));
    }

    fn planned(&self, node: &str, bytes: u64) {
        self.tell(|board, _| board.planned(node, bytes));
    }

    fn moved(&self, node: &str, bytes: u64) {
        self.tell(|board, now| board.moved(node, bytes, now));
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.end.take());
        // What it showed is gone when it has ended; the result follows.
        let _ = self.drawing.take().map(JoinHandle::join);
    }
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    let size = Term::stderr().size_checked().filter(|(_, columns)| *columns > 0);
    size.map_or((WIDTH, HEIGHT), |(rows, columns)| (usize::from(columns), usize::from(rows)))
}

/// The lowest rows of a terminal: a bar that is nothing but text.
struct Screen(ProgressBar);

impl Screen {
    fn new(term: impl TermLike + 'static, redraws: u8) -> Screen {
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(Narrow(term)), redraws);
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        *SCREEN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.clone());
        Screen(bar)
    }

    fn show(&mut self, rows: &[String]) {
        self.0.set_message(rows.join("\n"));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        *SCREEN.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.finish_and_clear();
    }
}

/// Whether somebody can watch.
pub(super) fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Writes a line on stderr.
pub(super) fn line(text: &str) {
    // Nobody is left to be told that stderr is gone.
    beside(|| drop(writeln!(io::stderr(), "{text}")));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use indicatif::InMemoryTerm;

    use super::*;

    #[test]
    fn nothing_stays_on_the_screen_whatever_was_typed_meanwhile() {
        for width in [40, 80] {
            let term = InMemoryTerm::new(24, width);
            // As often as it is told.
            let mut screen = Screen::new(term.clone(), u8::MAX);
            let full = "x".repeat(usize::from(width) - board::MARGIN);
            for _ in 0..3 {
                screen.show(&[full.clone(), full.clone(), full.clone()]);
                thread::sleep(Duration::from_millis(5));
                // The terminal shows what Ctrl-C is.
                term.write_str("^C").unwrap();
                screen.show(&[full.clone(), full.clone()]);
                thread::sleep(Duration::from_millis(5));
            }
            drop(screen);
            assert_eq!(term.contents(), "", "{width} columns");
        }
    }
}
