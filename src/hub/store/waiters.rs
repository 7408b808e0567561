//! Who waits for a publication: one task looks at the store for all of them, as long as there is anybody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::Refused;
use super::shelf::Number;

/// How often it looks.
const AGAIN: Duration = Duration::from_millis(500);

/// What a look came to.
type Looked = Result<Number, Refused>;

pub(super) struct Waiters {
    /// What the last look came to; none: somebody looks for the first time.
    news: watch::Sender<Option<Looked>>,
    /// Whether somebody looks.
    is_watched: Mutex<bool>,
}

impl Waiters {
    pub(super) fn new() -> Arc<Waiters> {
        Arc::new(Waiters { news: watch::Sender::new(None), is_watched: Mutex::default() })
    }

    /// Waits until there is a newer publication than this one. `look` asks the store for the newest, where nobody does
    /// already.
    pub(super) async fn newer<F>(
        self: &Arc<Waiters>,
        after: Number,
        look: impl Fn() -> F + Send + Sync + 'static,
    ) -> Looked
    where
        F: Future<Output = Looked> + Send + 'static,
    {
        let mut news = self.join(look);
        loop {
            match news.borrow_and_update().clone() {
                Some(Ok(newest)) if newest <= after => {}
                Some(looked) => return looked,
                None => {}
            }
            // Cannot fail: the sender lives as long as this.
            let _ = news.changed().await;
        }
    }

    fn join<F>(
        self: &Arc<Waiters>,
        look: impl Fn() -> F + Send + Sync + 'static,
    ) -> watch::Receiver<Option<Looked>>
    where
        F: Future<Output = Looked> + Send + 'static,
    {
        let mut is_watched = self.is_watched.lock().unwrap_or_else(PoisonError::into_inner);
        let news = self.news.subscribe();
        if !*is_watched {
            *is_watched = true;
            self.news.send_replace(None);
            tokio::spawn(Arc::clone(self).watch(look));
        }
        news
    }

    /// Looks until nobody waits.
    async fn watch<F>(self: Arc<Waiters>, look: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Looked> + Send + 'static,
    {
        loop {
            let looked = look().await;
            self.news.send_if_modified(|known| {
                let is_new = known.as_ref() != Some(&looked);
                *known = Some(looked);
                is_new
            });
            tokio::time::sleep(AGAIN).await;
            let mut is_watched = self.is_watched.lock().unwrap_or_else(PoisonError::into_inner);
            if self.news.receiver_count() == 0 {
                *is_watched = false;
                return;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::StatusCode;
    use tokio::sync::mpsc;
    use tokio::task::yield_now;

    use super::*;

    /// A store at which one can look once for each answer that is sent.
    struct Store {
        waiters: Arc<Waiters>,
        looks: Arc<AtomicUsize>,
        answers: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Looked>>>,
    }

    impl Store {
        fn new() -> (Store, mpsc::UnboundedSender<Looked>) {
            let (answer, answers) = mpsc::unbounded_channel();
            let answers = Arc::new(tokio::sync::Mutex::new(answers));
            (Store { waiters: Waiters::new(), looks: Arc::default(), answers }, answer)
        }

        fn wait(&self, after: Number) -> tokio::task::JoinHandle<Looked> {
            let (waiters, looks) = (Arc::clone(&self.waiters), Arc::clone(&self.looks));
            let answers = Arc::clone(&self.answers);
            let look = move || {
                looks.fetch_add(1, Ordering::Relaxed);
                let answers = Arc::clone(&answers);
                async move { answers.lock().await.recv().await.unwrap() }
            };
            tokio::spawn(async move { waiters.newer(after, look).await })
        }
    }

    #[tokio::test]
    async fn two_hundred_who_wait_look_at_the_store_as_often_as_one() {
        let (store, answer) = Store::new();
        let waiting: Vec<_> = (0..200).map(|_| store.wait((1, 1))).collect();
        while store.waiters.news.receiver_count() < waiting.len() {
            yield_now().await;
        }
        for newest in [(1, 1), (1, 1), (1, 2)] {
            answer.send(Ok(newest)).unwrap();
        }
        for waiter in waiting {
            assert_eq!(waiter.await.unwrap(), Ok((1, 2)));
        }
        assert_eq!(store.looks.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn nobody_looks_while_nobody_waits_and_what_was_found_before_is_not_told_again() {
        let (store, answer) = Store::new();
        let gone = (StatusCode::BAD_GATEWAY, "no store".to_owned());
        answer.send(Err(gone.clone())).unwrap();
        assert_eq!(store.wait((1, 1)).await.unwrap(), Err(gone));
        while *store.waiters.is_watched.lock().unwrap() {
            yield_now().await;
        }
        assert_eq!(store.looks.load(Ordering::Relaxed), 1);
        answer.send(Ok((1, 2))).unwrap();
        assert_eq!(store.wait((1, 1)).await.unwrap(), Ok((1, 2)));
        // Who has come late is told at once.
        assert_eq!(store.wait((1, 1)).await.unwrap(), Ok((1, 2)));
        assert_eq!(store.looks.load(Ordering::Relaxed), 2);
    }
}
