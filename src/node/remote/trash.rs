//! The trash of a node's directories.

use super::{Remote, check_count};
use crate::model::{Entry, RelPath, RelPathBuf};
use crate::node::endpoint::TrashReader;
use crate::node::error::{Attempt, NodeError};
use crate::node::protocol::check;
use crate::node::protocol::frame::FrameError;
use crate::node::protocol::message::{Reply, Request, batches};
use crate::transfer::trash::{MOST_LISTED, TrashEntry, TrashId};
use crate::transfer::{BlobRequest, Sink};

impl Remote {
    /// Requests entries of the trash, and receives all of them: at most `most`.
    pub(super) fn trash_entries(
        &mut self,
        request: &Request,
        most: usize,
    ) -> Result<Attempt<Vec<TrashEntry>>, NodeError> {
        let mut all = Vec::new();
        let mut reply = self.connection.call(request)?;
        loop {
            let more = match reply {
                Reply::Trash { entries, more } => {
                    if entries.is_empty() && more {
                        let rule = "expected entries of its trash, got none although there are more";
                        return Err(self.connection.fail(FrameError::broken(rule)));
                    }
                    all.extend(entries);
                    more
                }
                Reply::TrashUnreadable(refusal) if all.is_empty() => return Ok(Err(check::refusal(refusal))),
                other => return self.connection.unexpected(&other, "entries of its trash"),
            };
            if all.len() > most {
                let rule = format!("expected at most {most} entries of its trash, got {}", all.len());
                return Err(self.connection.fail(FrameError::broken(rule)));
            }
            if !more {
                return Ok(Ok(all));
            }
            reply = self.connection.call(&Request::MoreTrash)?;
        }
    }
}

impl TrashReader for Remote {
    fn versions(&mut self, directory: &str, path: &RelPath) -> Result<Attempt<Vec<TrashEntry>>, NodeError> {
        let request = Request::Versions { directory: directory.to_owned(), path: path.to_owned() };
        let trash = self.trash_entries(&request, MOST_LISTED)?;
        if let Ok(entries) = &trash {
            let checked = entries.iter().try_for_each(|entry| check::trash_entry(entry, path));
            self.connection.check(checked)?;
        }
        Ok(trash)
    }

    fn recall(
        &mut self,
        directory: &str,
        id: &TrashId,
        paths: &[RelPathBuf],
    ) -> Result<Vec<Attempt<Entry>>, NodeError> {
        let mut recalled = Vec::with_capacity(paths.len());
        for batch in batches(paths) {
            let (directory, id, paths) = (directory.to_owned(), id.clone(), batch.to_vec());
            let answer = match self.connection.call(&Request::Recall { directory, id, paths })? {
                Reply::Recalled(answer) => answer,
                other => return self.connection.unexpected(&other, "versions from its trash"),
            };
            self.connection.check(check_count(&answer, batch.len()))?;
            for (path, item) in batch.iter().zip(answer) {
                if let Ok(entry) = &item {
                    self.connection.check(check::recalled(path, entry))?;
                }
                recalled.push(item.map_err(check::refusal));
            }
        }
        Ok(recalled)
    }

    fn send_trashed(
        &mut self,
        directory: &str,
        id: &TrashId,
        wanted: &[BlobRequest],
        sink: &mut dyn Sink,
    ) -> Result<(), NodeError> {
        self.request_trashed_blobs(directory, id, wanted, sink)
    }
}
