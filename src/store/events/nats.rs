//! Publications told over NATS, core protocol: whoever does not listen at that moment hears nothing, and looks later.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use futures_util::StreamExt as _;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::MAX_TOLD;
use crate::store::StoreError;

/// What is told under.
const SUBJECT: &str = "xds-sync.published";
/// For connecting, and for telling.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn tell(url: &str, ca: Option<&Path>, publication: &str) -> Result<(), StoreError> {
    runtime()?.block_on(async {
        let told = async {
            let client = connect(url, ConnectOptions::new(), ca).await?;
            let payload = publication.to_owned().into();
            client.publish(SUBJECT, payload).await.map_err(|error| lost(&error.to_string()))?;
            client.flush().await.map_err(|error| lost(&error.to_string()))
        };
        tokio::time::timeout(PATIENCE, told).await.map_err(|_| lost("no answer in time"))?
    })
}

pub(super) fn listen(
    url: &str,
    ca: Option<&Path>,
    hint: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<(), StoreError> {
    runtime()?.block_on(async {
        // The client connects again by itself; what was told meanwhile is missed.
        let (again, mut is_again) = mpsc::unbounded_channel();
        let options = ConnectOptions::new().event_callback(move |event| {
            if matches!(event, Event::Connected) {
                let _ = again.send(());
            }
            async {}
        });
        let subscribed = async {
            let client = connect(url, options, ca).await?;
            let told = client.subscribe(SUBJECT).await.map_err(|error| lost(&error.to_string()))?;
            // From here on nothing is missed.
            client.flush().await.map_err(|error| lost(&error.to_string()))?;
            Ok((client, told))
        };
        let subscribed = tokio::time::timeout(PATIENCE, subscribed).await;
        let (_client, mut told) = subscribed.map_err(|_| lost("no answer in time"))??;
        while hint().is_continue() {
            tokio::select! {
                message = told.next() => match message {
                    Some(message) if message.payload.len() > MAX_TOLD => return Err(lost("expected EPOCH.SEQ, got more")),
                    Some(_) => {}
                    None => return Err(lost("the connection was closed")),
                },
                _ = is_again.recv() => {}
            }
        }
        Ok(())
    })
}

async fn connect(url: &str, options: ConnectOptions, ca: Option<&Path>) -> Result<Client, StoreError> {
    let options = match ca {
        Some(ca) => options.add_root_certificates(ca.to_owned()),
        None => options,
    };
    let connected = options.connection_timeout(PATIENCE).connect(url).await;
    connected.map_err(|error| lost(&error.to_string()))
}

fn runtime() -> Result<Runtime, StoreError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| StoreError::Local(format!("starting a runtime: {error}")))
}

/// The URL may hold a password, and is not told.
fn lost(why: &str) -> StoreError {
    StoreError::Unreachable(format!("store.events: {why}"))
}
