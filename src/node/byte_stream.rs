//! A stream of bytes to a node, read and written with a deadline.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// Bytes gathered before they are written, and read ahead at most.
const BUFFER: usize = 256 * 1024;
/// Bytes that must move, in either direction, within [`MAX_STALL`].
const STEP: u64 = 1024 * 1024;
/// Longest time in which less than [`STEP`] may move. The longest legitimate case is a node that
/// copies a whole directory from its own trash; 4 hours are a terabyte on its disk.
const MAX_STALL: Duration = Duration::from_secs(4 * 3600);

/// Raises a pipe's capacity to what any user may ask for (pipe(7)), so that its two ends wait less for each other: a
/// first copy takes a fifth less time. Whatever is not a pipe, or is not granted that much, stays as it is.
pub(crate) fn widen(pipe: impl AsFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20);
}

/// Both directions of a stream. Reading flushes what was written.
///
/// Every wait ends, with [`io::ErrorKind::TimedOut`], once no byte has moved for `timeout`. While it
/// writes it also reads what arrives: the keep-alives of a node that is too busy to read show that it
/// is alive, and never fill the pipe.
pub(crate) struct ByteStream {
    input: OwnedFd,
    output: OwnedFd,
    timeout: Duration,
    /// When waiting ends even if bytes move now and then.
    deadline: Instant,
    /// Whether the deadline stays where it is however much moves. Otherwise it is put off with every [`STEP`].
    hard_deadline: bool,
    /// How much longer may be waited for the peer in all; `None`: as long as enough moves.
    patience: Option<Duration>,
    /// Bytes that have moved since the deadline was set.
    moved: u64,
    /// `read_at..read_to` has arrived and was not read yet.
    arrived: Box<[u8]>,
    read_at: usize,
    read_to: usize,
    unwritten: Vec<u8>,
}

impl ByteStream {
    /// A stream of these two ends, which become non-blocking.
    pub(crate) fn new(input: OwnedFd, output: OwnedFd, timeout: Duration) -> io::Result<ByteStream> {
        rustix::io::ioctl_fionbio(&input, true)?;
        rustix::io::ioctl_fionbio(&output, true)?;
        widen(&input);
        widen(&output);
        Ok(ByteStream {
            input,
            output,
            timeout,
            deadline: Instant::now() + timeout,
            hard_deadline: true,
            patience: None,
            moved: 0,
            arrived: vec![0; BUFFER].into(),
            read_at: 0,
            read_to: 0,
            unwritten: Vec::with_capacity(BUFFER),
        })
    }

    /// Sets when everything that is read and written from now on must be done, however much moves. With `None` there is
    /// no such moment, as long as enough moves.
    pub(crate) fn set_deadline(&mut self, after: Option<Duration>) {
        self.deadline = Instant::now() + after.unwrap_or(MAX_STALL);
        self.hard_deadline = after.is_some();
        self.moved = 0;
    }

    /// Sets how long may be waited for the peer from now on, all waits together. What this end does meanwhile does not count.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = Some(patience);
    }

    /// Whether a wait has ended because there were too many.
    pub(crate) fn is_out_of_patience(&self) -> bool {
        self.patience == Some(Duration::ZERO)
    }

    fn count(&mut self, bytes: usize) {
        self.moved += bytes as u64;
        if self.moved >= STEP && !self.hard_deadline {
            self.set_deadline(None);
        }
    }

    /// Waits until the output takes bytes, or some have arrived.
    fn wait(&mut self, writing: bool) -> io::Result<()> {
        let began = Instant::now();
        let left = self.timeout.min(self.deadline.saturating_duration_since(began));
        let left = self.patience.map_or(left, |patience| left.min(patience));
        // Poll would still report bytes that have arrived.
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let room = self.read_to - self.read_at < self.arrived.len();
        let (output, input) = (
            PollFd::new(&self.output, if writing { PollFlags::OUT } else { PollFlags::empty() }),
            PollFd::new(&self.input, PollFlags::IN),
        );
        // While the read-ahead buffer is full, only the output is waited for.
        let mut fds = [input, output];
        let fds = match (writing, room) {
            (true, false) => &mut fds[1..],
            (true, true) => &mut fds[..],
            (false, _) => &mut fds[..1],
        };
        let polled = rustix::event::poll(fds, Some(&left));
        let is_readable = (!writing || room) && !fds[0].revents().is_empty();
        self.patience =
            self.patience.map(|patience| patience.saturating_sub(Instant::now().duration_since(began)));
        match polled {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {
                if is_readable {
                    self.fill()?;
                }
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits, as long as it takes, until something has arrived; `false`: until `wake` is readable.
    pub(crate) fn wait_idle(&mut self, wake: BorrowedFd<'_>) -> io::Result<bool> {
        self.flush()?;
        loop {
            let mut fds = [PollFd::new(&wake, PollFlags::IN), PollFd::new(&self.input, PollFlags::IN)];
            let waits = self.read_at == self.read_to;
            let limit = (!waits).then_some(Timespec { tv_sec: 0, tv_nsec: 0 });
            match rustix::event::poll(&mut fds, limit.as_ref()) {
                Ok(_) if !fds[0].revents().is_empty() => return Ok(false),
                Ok(_) if !waits || !fds[1].revents().is_empty() => return Ok(true),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads what has arrived into the buffer.
    fn fill(&mut self) -> io::Result<()> {
        self.arrived.copy_within(self.read_at..self.read_to, 0);
        self.read_to -= std::mem::take(&mut self.read_at);
        let read = rustix::io::read(&self.input, &mut self.arrived[self.read_to..]);
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                self.read_to += count;
                self.count(count);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match rustix::io::write(&self.output, bytes) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.count(count);
                }
                Err(Errno::AGAIN) => self.wait(true)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl Read for ByteStream {
    /// The end of the stream reads as 0 bytes.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.flush()?;
        while self.read_at == self.read_to {
            match self.wait(false) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => other?,
            }
        }
        let count = (&self.arrived[self.read_at..self.read_to]).read(buffer)?;
        self.read_at += count;
        Ok(count)
    }
}

impl Write for ByteStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.unwritten.len() + bytes.len() > BUFFER {
            self.flush()?;
        }
        if bytes.len() >= BUFFER {
            self.push(bytes)?;
        } else {
            self.unwritten.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.unwritten);
        let pushed = self.push(&bytes);
        // After an error the session is over; the next flush must not send the rest of a frame.
        bytes.clear();
        self.unwritten = bytes;
        pushed
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    fn pair(timeout: Duration) -> (ByteStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let input = ours.try_clone().unwrap().into();
        let mut stream = ByteStream::new(input, ours.into(), timeout).unwrap();
        stream.set_deadline(None);
        (stream, theirs)
    }

    #[test]
    fn bytes_go_both_ways() {
        let (mut stream, mut peer) = pair(Duration::from_secs(30));
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[1]).collect();
        let expected = sent.clone();
        let echo = std::thread::spawn(move || {
            let mut got = vec![0; expected.len()];
            peer.read_exact(&mut got).unwrap();
            assert!(got == expected);
            peer.write_all(&got).unwrap();
        });
        for piece in sent.chunks(300_001) {
            stream.write_all(piece).unwrap();
        }
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        echo.join().unwrap();
        assert!(back == sent);
    }

    #[test]
    fn a_silent_peer_times_out_reading_and_writing() {
        let (mut stream, _peer) = pair(SHORT);
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let error = stream.write_all(&vec![0; 64 * BUFFER]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_peer_that_drips_is_given_up() {
        let (mut stream, mut peer) = pair(Duration::from_secs(30));
        stream.set_deadline(Some(SHORT));
        let drip = std::thread::spawn(move || {
            while peer.write_all(b".").is_ok() {
                std::thread::yield_now();
            }
        });
        let mut taken = [0; 16];
        let error = loop {
            match stream.read_exact(&mut taken) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(stream);
        drip.join().unwrap();
    }

    #[test]
    fn a_peer_that_always_moves_enough_is_waited_for_only_so_long_in_all() {
        let (mut stream, mut peer) = pair(Duration::from_secs(30));
        stream.set_patience(SHORT);
        let drip = std::thread::spawn(move || {
            while peer.write_all(b".").is_ok() {
                std::thread::yield_now();
            }
        });
        let mut taken = [0; 16];
        let error = loop {
            // No single answer has a deadline that it could miss.
            stream.set_deadline(None);
            match stream.read_exact(&mut taken) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(stream.is_out_of_patience());
        drop(stream);
        drip.join().unwrap();
    }

    #[test]
    fn writing_takes_in_what_the_peer_says_and_no_more_than_it_may() {
        let (mut stream, mut peer) = pair(SHORT);
        // The peer never reads, and says more than it may: both pipes fill up.
        let flood = std::thread::spawn(move || peer.write_all(&vec![1; 16 * BUFFER]).is_err());
        let error = stream.write_all(&vec![0; 64 * BUFFER]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(stream.read_to - stream.read_at, BUFFER);
        drop(stream);
        assert!(flood.join().unwrap());
    }

    #[test]
    fn the_end_is_an_end() {
        let (mut stream, peer) = pair(Duration::from_secs(30));
        (&peer).write_all(b"ab").unwrap();
        drop(peer);
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"ab");
        assert!(stream.write_all(&[0; 1]).and_then(|()| stream.flush()).is_err());
    }
}
