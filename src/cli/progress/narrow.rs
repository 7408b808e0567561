//! A terminal that leaves room at its right edge.

use std::io;

use indicatif::TermLike;

use super::board::MARGIN;

/// Fills rows but for the last columns. What the terminal itself shows at the cursor, such as `^C`, then stays in the last
/// row; on a line of its own it would put off by one what is cleared.
#[derive(Debug)]
pub(super) struct Narrow<T>(pub(super) T);

impl<T: TermLike> TermLike for Narrow<T> {
    fn width(&self) -> u16 {
        self.0.width().saturating_sub(MARGIN as u16).max(1)
    }

    fn height(&self) -> u16 {
        self.0.height()
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.0.move_cursor_left(n)
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.0.write_line(s)
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        self.0.write_str(s)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.0.clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }
}
