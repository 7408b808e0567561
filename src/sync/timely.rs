//! Blobs that are begun within a time: one directory of a slow node must not hold up its others, nor the run.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::Digest;
use crate::transfer::{BlobRequest, Signature, Sink, Source};

/// How long blobs of one directory are sent to one node in a run. One that has begun is sent to its end.
pub(super) const SENDING: Duration = Duration::from_secs(1800);

/// A source that begins no blob after a moment.
pub(super) struct Timely<'a> {
    source: &'a mut dyn Source,
    now: &'a (dyn Fn() -> SystemTime + Sync),
    /// `None`: there is no such moment.
    until: Option<SystemTime>,
    /// The blobs that were not begun.
    pub(super) late: HashSet<Digest>,
}

impl<'a> Timely<'a> {
    /// Begins blobs of `source` for so long from now on.
    pub(super) fn new(
        source: &'a mut dyn Source,
        now: &'a (dyn Fn() -> SystemTime + Sync),
        time: Duration,
    ) -> Timely<'a> {
        Timely { source, now, until: now().checked_add(time), late: HashSet::new() }
    }
}

impl Source for Timely<'_> {
    fn send(&mut self, requests: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
        for (index, request) in requests.iter().enumerate() {
            if self.until.is_none_or(|until| (self.now)() < until) {
                self.source.send(std::slice::from_ref(request), &mut OneOf { sink, index })?;
            } else {
                self.late.insert(request.digest);
                sink.begin(index)?;
                sink.end(Err("there was no time left to send it".to_owned()))?;
            }
        }
        Ok(())
    }
}

/// Takes the blob with this index.
struct OneOf<'a> {
    sink: &'a mut dyn Sink,
    index: usize,
}

impl Sink for OneOf<'_> {
    fn begin(&mut self, _: usize) -> anyhow::Result<()> {
        self.sink.begin(self.index)
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.sink.data(bytes)
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        self.sink.hole(length)
    }

    fn basis(&self, _: usize) -> Option<Arc<Signature>> {
        self.sink.basis(self.index)
    }

    fn copy(&mut self, from: u64, length: u64) -> anyhow::Result<()> {
        self.sink.copy(from, length)
    }

    fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
        self.sink.end(result)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::model::RelPathBuf;

    /// Gives each blob its path as content.
    struct Paths;

    impl Source for Paths {
        fn send(&mut self, requests: &[BlobRequest], sink: &mut dyn Sink) -> anyhow::Result<()> {
            for (index, request) in requests.iter().enumerate() {
                sink.begin(index)?;
                sink.data(request.path.as_bytes())?;
                sink.end(Ok(()))?;
            }
            Ok(())
        }
    }

    #[derive(Default)]
    struct Told(Vec<String>);

    impl Sink for Told {
        fn begin(&mut self, index: usize) -> anyhow::Result<()> {
            self.0.push(index.to_string());
            Ok(())
        }

        fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
            *self.0.last_mut().unwrap() += &String::from_utf8_lossy(bytes);
            Ok(())
        }

        fn hole(&mut self, _: u64) -> anyhow::Result<()> {
            Ok(())
        }

        fn end(&mut self, result: Result<(), String>) -> anyhow::Result<()> {
            *self.0.last_mut().unwrap() += if result.is_ok() { " sent" } else { " late" };
            Ok(())
        }
    }

    #[test]
    fn what_is_not_begun_in_time_is_left_for_later() {
        let request = |name: &str| BlobRequest {
            path: RelPathBuf::new(name.as_bytes()).unwrap(),
            digest: Digest(blake3::hash(name.as_bytes()).into()),
            size: 1,
            offset: 0,
        };
        // Each look at the clock is a second later than the one before.
        let clock = Mutex::new(SystemTime::UNIX_EPOCH);
        let now = || {
            let mut clock = clock.lock().unwrap();
            *clock += Duration::from_secs(1);
            *clock
        };
        let (mut paths, mut told) = (Paths, Told::default());
        let mut timely = Timely::new(&mut paths, &now, Duration::from_secs(3));
        let requests = ["a", "b", "c", "d"].map(request);
        timely.send(&requests, &mut told).unwrap();
        assert_eq!(told.0, ["0a sent", "1b sent", "2 late", "3 late"]);
        assert_eq!(timely.late, requests[2..].iter().map(|request| request.digest).collect());
    }
}
