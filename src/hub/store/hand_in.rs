//! A node hands in its key, and waits to be approved. Whoever reaches the hub may ask: what is kept has bounds, nothing of it
//! is believed, and nothing is logged.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::{Refused, Service, answered};
use crate::enroll::waiting::{HandedIn, MAX_KEY, read_key};
use crate::hub::guest::Guest;
use crate::store::names::is_name;

/// `POST` of a public key, by the name that its node is to have.
pub(super) const PATH: &str = "/store/v1/waiting/{name}";
/// For a line of text.
const SENDING: Duration = Duration::from_secs(10);

pub(super) async fn hand_in(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    axum::Extension(guest): axum::Extension<Arc<Guest>>,
    request: Request,
) -> Response {
    let handed_in = wait_for_approval(&service, name, request, &guest).await;
    answered(handed_in.map(|(code, text)| axum::response::IntoResponse::into_response((code, text))))
}

async fn wait_for_approval(
    service: &Arc<Service>,
    name: String,
    request: Request,
    guest: &Arc<Guest>,
) -> Result<(StatusCode, &'static str), Refused> {
    let refuse = |code, why: &str| Err((code, why.to_owned()));
    if !is_name(&name) {
        return refuse(StatusCode::BAD_REQUEST, "that is no name of a node");
    }
    let body = tokio::time::timeout(SENDING, axum::body::to_bytes(request.into_body(), MAX_KEY)).await;
    let Ok(Ok(body)) = body else {
        return refuse(StatusCode::BAD_REQUEST, "expected a public key, in one line, within ten seconds");
    };
    let key = read_key(&body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let client = guest.client();
    let handed_in = service.blocking(move |service| {
        let now = (service.clock)();
        match service.members.find(&name, now) {
            Some(member) if member.key.key_data() == key.key_data() => Ok(None),
            Some(_) => Ok(Some(HandedIn::Taken)),
            None => {
                let handed_in = service.waiting.hand_in(&name, &key, client, now);
                // Why is Main's business alone.
                handed_in
                    .map(Some)
                    .map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "the hub cannot keep it".to_owned()))
            }
        }
    });
    match handed_in.await? {
        None => Ok((StatusCode::OK, "approved\n")),
        Some(HandedIn::Known) => Ok((StatusCode::OK, "waits\n")),
        Some(HandedIn::New) => Ok((StatusCode::CREATED, "waits\n")),
        Some(HandedIn::Taken) => refuse(
            StatusCode::CONFLICT,
            "Main knows another key under this name, or another one waits under it",
        ),
        Some(HandedIn::Full) => refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "as many nodes wait as may: approve or reject some on Main",
        ),
    }
}
