//! Contents into the stage: written, verified, on disk, and only then under their digest's name.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Scope;

use anyhow::{bail, ensure};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::durable::Unsynced;
use super::own::OwnDir;
use super::source::{Broken, CHUNK, Part, stream};
use super::writers::{SMALL, Writers};
use super::{BlobRequest, Received, Signature, Sink};
use crate::fault::{self, Point, reach};
use crate::model::Digest;

/// Takes contents into a stage.
///
/// What is cut off stays there as `<digest>.part`, for a later run to go on with, unless it was so short that it
/// was held until it is whole. What arrives wrong is removed at once; so is what does not fit on the disk, which fails alone.
#[derive(Debug)]
pub struct Stager<'a> {
    own: &'a OwnDir,
    stage: BorrowedFd<'a>,
    wanted: &'a [BlobRequest],
    /// What stands where they will.
    signatures: Vec<Option<Basis>>,
    /// Who writes small contents, if there are many.
    writers: Option<Writers<'a>>,
    arriving: Option<Arriving>,
    results: Received,
    /// Verified, and not on disk yet.
    written: Vec<usize>,
    unsynced: Arc<Unsynced>,
}

/// A basis of a content, on this host.
#[derive(Debug)]
pub(super) struct Basis {
    pub(super) file: File,
    pub(super) signature: Arc<Signature>,
}

#[derive(Debug)]
struct Arriving {
    index: usize,
    /// Where it goes, or why nothing more of it is taken.
    to: Result<To, String>,
    at: u64,
}

/// What becomes of bytes that arrive.
#[derive(Debug)]
enum To {
    /// They are written as they come.
    Part(File, Box<blake3::Hasher>),
    /// They are held until others write the whole.
    Writers(Vec<u8>),
}

impl<'a> Stager<'a> {
    /// Will take `wanted` into the stage of `own`.
    pub(super) fn new(own: &'a OwnDir, wanted: &'a [BlobRequest]) -> Stager<'a> {
        Stager {
            own,
            stage: own.stage(),
            wanted,
            signatures: Vec::new(),
            writers: None,
            arriving: None,
            results: wanted.iter().map(|_| Err("it was not sent".to_owned())).collect(),
            written: Vec::new(),
            unsynced: Arc::default(),
        }
    }

    /// With the basis of each of `wanted`, where there is one.
    pub(super) fn with_signatures(self, signatures: Vec<Option<Basis>>) -> Stager<'a> {
        Stager { signatures, ..self }
    }

    /// With others who write small contents.
    pub(super) fn with_writers(self, scope: &'a Scope<'a, '_>) -> Stager<'a> {
        let writers = Writers::start(scope, self.own, self.wanted, &self.unsynced);
        Stager { writers, ..self }
    }

    /// The content of `wanted[index]` follows from `offset` on, which a part must reach already.
    pub(super) fn begin_at(&mut self, index: usize, offset: u64) -> anyhow::Result<()> {
        ensure!(self.arriving.is_none(), "a content begins before the last one ended");
        let Some(wanted) = self.wanted.get(index) else { bail!("a content that nobody wants") };
        let is_held = self.writers.is_some()
            && offset == 0
            && wanted.size <= SMALL
            && self.signatures.get(index).is_none_or(Option::is_none);
        let to = if is_held {
            Ok(To::Writers(Vec::with_capacity(usize::try_from(wanted.size).unwrap_or(0))))
        } else {
            let mut hasher = Box::new(blake3::Hasher::new());
            let part = self.open_part(wanted, offset, &mut hasher);
            part.map(|part| To::Part(part, hasher)).map_err(|error| error.to_string())
        };
        self.arriving = Some(Arriving { index, to, at: offset });
        Ok(())
    }

    fn open_part(&self, wanted: &BlobRequest, offset: u64, hasher: &mut blake3::Hasher) -> io::Result<File> {
        if offset == 0 {
            return create_part(self.stage, &wanted.digest);
        }
        let part = open_part(self.stage, &wanted.digest)?;
        let mut begun = (&part).take(offset);
        let mut buffer = vec![0; CHUNK];
        let mut read = 0;
        loop {
            match begun.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    hasher.update(&buffer[..length]);
                    read += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if read < offset {
            return Err(io::Error::other("the part in the stage is shorter than it was"));
        }
        Ok(part)
    }

    /// Whatever was verified is on disk and under its name when this returns.
    pub(super) fn finish(mut self) -> Received {
        for (index, result) in self.writers.take().into_iter().flat_map(Writers::finish).flatten() {
            if result.is_ok() {
                self.written.push(index);
            }
            self.results[index] = result;
        }
        if self.written.is_empty() {
            return self.results;
        }
        let synced = reach(Point::StageSync).and_then(|()| self.unsynced.sync(self.own));
        let named = synced.and_then(|()| {
            for index in &self.written {
                let digest = &self.wanted[*index].digest;
                reach(Point::StageRename)?;
                rustix::fs::renameat(self.stage, part_name(digest), self.stage, digest.to_string())?;
            }
            reach(Point::StageDirSync)?;
            Ok(rustix::fs::fsync(self.stage)?)
        });
        let result = named.map_err(|error| format!("could not be written to disk: {error}"));
        for index in &self.written {
            self.results[*index] = result.clone();
        }
        self.results
    }

    /// Takes in what has arrived; `None` where others say how that went.
    fn complete(&mut self, arriving: Arriving, sent: Result<(), String>) -> Option<Result<(), String>> {
        let wanted = &self.wanted[arriving.index];
        let to = sent.and(arriving.to);
        match (to, &self.writers) {
            (Ok(To::Writers(content)), Some(writers)) => {
                writers.write(arriving.index, content);
                None
            }
            (Ok(To::Writers(_)), None) => Some(Err("nobody writes it".to_owned())),
            (Ok(To::Part(part, hasher)), _) => {
                Some(is_right(wanted, arriving.at, &hasher, &part).map(|()| self.unsynced.add(&part)))
            }
            (Err(why), _) => Some(Err(why)),
        }
    }

    /// A hole cannot be held.
    fn write_now(&mut self) {
        let Some(arriving) = &mut self.arriving else { return };
        let Ok(To::Writers(held)) = &mut arriving.to else { return };
        let held = std::mem::take(held);
        let part = create_part(self.stage, &self.wanted[arriving.index].digest);
        arriving.to = part.map(|part| To::Part(part, Box::default())).map_err(|error| error.to_string());
        arriving.at = 0;
        self.take(&held);
    }

    /// Bytes of the content that is arriving.
    fn take(&mut self, bytes: &[u8]) {
        let Some(arriving) = &mut self.arriving else { return };
        match &mut arriving.to {
            Ok(To::Writers(held)) => held.extend_from_slice(bytes),
            Ok(To::Part(part, hasher)) => {
                hasher.update(bytes);
                fault::wrote(&*part);
                let written = reach(Point::StageWrite).and_then(|()| part.write_all_at(bytes, arriving.at));
                if let Err(error) = written {
                    arriving.to = Err(error.to_string());
                    // Others may fit into the room that it took.
                    remove_part(self.stage, &self.wanted[arriving.index].digest);
                }
            }
            Err(_) => {}
        }
        arriving.at += bytes.len() as u64;
    }
}

/// Whether a part holds all that was wanted, and nothing else.
fn is_right(wanted: &BlobRequest, length: u64, hasher: &blake3::Hasher, part: &File) -> Result<(), String> {
    if length != wanted.size {
        return Err(came_short(length, wanted.size));
    }
    if hasher.finalize() != wanted.digest.0 {
        return Err(is_another());
    }
    // A hole at its end was only skipped so far.
    part.set_len(wanted.size).map_err(|error| error.to_string())
}

pub(super) fn came_short(came: u64, of: u64) -> String {
    format!("{came} of {of} bytes came")
}

pub(super) fn is_another() -> String {
    "its content is not what was announced: it changed meanwhile".to_owned()
}

impl Sink for Stager<'_> {
    fn begin(&mut self, index: usize) -> anyhow::Result<()> {
        let offset = self.wanted.get(index).map_or(0, |wanted| wanted.offset);
        self.begin_at(index, offset)
    }

    fn data(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let Some(arriving) = &mut self.arriving else { bail!("data outside of a content") };
        let left = self.wanted[arriving.index].size.saturating_sub(arriving.at);
        if bytes.len() as u64 > left {
            arriving.to = Err("more came than was announced".to_owned());
            return Ok(());
        }
        self.take(bytes);
        self.own.progress().fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> anyhow::Result<()> {
        self.write_now();
        let Some(arriving) = &mut self.arriving else { bail!("a hole outside of a content") };
        let Ok(To::Part(_, hasher)) = &mut arriving.to else { return Ok(()) };
        if length > self.wanted[arriving.index].size.saturating_sub(arriving.at) {
            arriving.to = Err("more came than was announced".to_owned());
            return Ok(());
        }
        hash_zeros(hasher, length);
        arriving.at += length;
        Ok(())
    }

    fn basis(&self, index: usize) -> Option<Arc<Signature>> {
        Some(Arc::clone(&self.signatures.get(index)?.as_ref()?.signature))
    }

    fn copy(&mut self, from: u64, length: u64) -> anyhow::Result<()> {
        let Some(index) = self.arriving.as_ref().map(|arriving| arriving.index) else {
            bail!("a copy outside of a content")
        };
        let Some(basis) = self.signatures.get_mut(index).and_then(Option::take) else {
            bail!("a copy of what this host has not")
        };
        let copied = stream(&basis.file, from, from.saturating_add(length), &mut |part| match part {
            Part::Data(bytes) => self.data(bytes).map_err(Broken::Sink),
            Part::Hole(length) => self.hole(length).map_err(Broken::Sink),
        });
        self.signatures[index] = Some(basis);
        match copied {
            Err(Broken::Sink(error)) => return Err(error),
            Err(Broken::Content(error)) => {
                if let Some(arriving) = &mut self.arriving {
                    arriving.to = Err(format!("its basis {error}"));
                }
            }
            Ok(()) => {}
        }
        Ok(())
    }

    fn end(&mut self, sent: Result<(), String>) -> anyhow::Result<()> {
        let Some(arriving) = self.arriving.take() else { bail!("the end of a content that did not begin") };
        let index = arriving.index;
        let Some(result) = self.complete(arriving, sent) else { return Ok(()) };
        match &result {
            Ok(()) => self.written.push(index),
            // Nothing can be built on it: the next run would have to find out anew that it is wrong.
            Err(_) => remove_part(self.stage, &self.wanted[index].digest),
        }
        self.results[index] = result;
        Ok(())
    }
}

/// As if that many zeros had been read.
pub(super) fn hash_zeros(hasher: &mut blake3::Hasher, length: u64) {
    static ZEROS: [u8; CHUNK] = [0; CHUNK];
    let mut left = length;
    while left > 0 {
        let zeros = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        hasher.update(&ZEROS[..zeros]);
        left -= zeros as u64;
    }
}

/// How much of a content an earlier run left in the stage.
pub(super) fn begun(stage: BorrowedFd<'_>, wanted: &BlobRequest) -> u64 {
    let length = open_part(stage, &wanted.digest).and_then(|part| Ok(part.metadata()?.len()));
    length.ok().filter(|length| *length <= wanted.size).unwrap_or(0)
}

/// Whether a content is in the stage, verified.
pub(super) fn is_staged(stage: BorrowedFd<'_>, digest: &Digest, size: u64) -> bool {
    let stat = rustix::fs::statat(stage, digest.to_string(), AtFlags::SYMLINK_NOFOLLOW);
    stat.is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode).is_file() && u64::try_from(stat.st_size) == Ok(size)
    })
}

fn part_name(digest: &Digest) -> String {
    format!("{digest}.part")
}

/// A new, empty part; what had its name is dropped.
pub(super) fn create_part(stage: BorrowedFd<'_>, digest: &Digest) -> io::Result<File> {
    reach(Point::StageCreate)?;
    let name = part_name(digest);
    match create(stage, &name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_part(stage, digest);
            create(stage, &name)
        }
        created => created,
    }
}

/// A new file that nobody else can open.
pub(super) fn create(stage: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::openat(stage, name, flags, Mode::RUSR | Mode::WUSR)?))
}

fn open_part(stage: BorrowedFd<'_>, digest: &Digest) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let part = rustix::fs::openat(stage, part_name(digest), flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&part)?;
    let is_ours = FileType::from_raw_mode(stat.st_mode).is_file()
        && stat.st_nlink == 1
        && stat.st_uid == rustix::process::geteuid().as_raw();
    if !is_ours {
        // Writing to it could be writing to a file elsewhere.
        return Err(io::Error::other("what is in the stage is not ours"));
    }
    Ok(File::from(part))
}

pub(super) fn remove_part(stage: BorrowedFd<'_>, digest: &Digest) {
    // Where this fails, making the part anew fails too, and says why.
    let _ = rustix::fs::unlinkat(stage, part_name(digest), AtFlags::empty());
}
