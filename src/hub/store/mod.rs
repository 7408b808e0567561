//! The store over HTTPS, for nodes that reach no other: `GET` and `PUT` of objects by their names, and a request that
//! is answered when something was published.
//!
//! The hub adds nothing that a node must trust: what it hands out is signed or named by its hash, as everywhere. It
//! decides who may read what: only nodes of this Main, each what is for it, and each writes below its own name alone.

mod hand_in;
mod members;
mod rights;
mod shelf;
#[cfg(test)]
mod tests;
mod turns;
mod waiters;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use members::Members;
pub(crate) use members::{Member, ReadMembers};
use rights::{LONGEST, Readable, readable, writable};
use shelf::Shelf;
use turns::{Turn, Turns};
use waiters::Waiters;

use super::guest::Guest;
use crate::enroll::waiting::WaitingRoom;
use crate::store::{Created, MAX_CHANGES, Objects, StoreError, names, pass, several};

/// Where objects are.
const OBJECTS: &str = "/store/{*name}";
/// Where several objects are asked for at once.
const SEVERAL: &str = "/store/v1/several";
/// Where one waits.
const WAIT: &str = "/store/v1/wait";
/// Longest wait, in seconds.
const LONGEST_WAIT: u64 = 300;
/// For the whole of an upload.
const UPLOADING: Duration = Duration::from_secs(600);

/// The store that a hub serves.
pub(crate) struct Store {
    /// What lies where.
    pub(crate) objects: Arc<dyn Objects>,
    /// Files with Main's public key; the first that can be read is believed.
    pub(crate) keys: Vec<PathBuf>,
    /// Who may use it.
    pub(crate) members: ReadMembers,
    /// The hub's own state: where nodes wait to be approved.
    pub(crate) state: PathBuf,
    /// The time.
    pub(crate) clock: fn() -> SystemTime,
}

struct Service {
    objects: Arc<dyn Objects>,
    members: Members,
    shelf: Shelf,
    waiters: Arc<Waiters>,
    turns: Turns,
    waiting: WaitingRoom,
    clock: fn() -> SystemTime,
}

/// The routes of a store.
pub(super) fn routes(store: Store) -> Router {
    let Store { objects, keys, members, state, clock } = store;
    let shelf = Shelf::new(Arc::clone(&objects), keys);
    let service = Arc::new(Service {
        objects,
        members: Members::new(members),
        shelf,
        waiters: Waiters::new(),
        turns: Turns::new(),
        waiting: WaitingRoom::in_state(&state),
        clock,
    });
    Router::new()
        .route(WAIT, get(wait))
        .route(SEVERAL, get(read_several))
        .route(hand_in::PATH, post(hand_in::hand_in))
        .route(OBJECTS, get(read).put(write))
        .with_state(service)
}

/// Why a request gets nothing else.
type Refused = (StatusCode, String);

impl Service {
    /// The node that asks. From here on its connection is no stranger's.
    async fn member(self: &Arc<Service>, headers: &HeaderMap, guest: &Guest) -> Result<Member, Refused> {
        let pass =
            headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let pass = pass.to_owned();
        let member = self
            .blocking(move |service| {
                let now = (service.clock)();
                let (mut member, mut unknown) = (None, None);
                let known = |name: &str| {
                    member = service.members.find(name, now);
                    unknown = member.is_none().then(|| name.to_owned());
                    member.as_ref().map(|member| member.key.clone())
                };
                let checked = pass::check(&pass, now, known);
                let refusal = |why: String| match unknown {
                    Some(name) => {
                        format!("{name} is not approved yet: run `xds-sync nodes approve {name}` on Main")
                    }
                    None => why,
                };
                checked.map(|_| member).map_err(|why| (StatusCode::UNAUTHORIZED, refusal(why)))
            })
            .await?;
        let member = member.ok_or_else(|| (StatusCode::UNAUTHORIZED, "no such node".to_owned()))?;
        match guest.admit(&member.name) {
            true => Ok(member),
            false => {
                Err((StatusCode::SERVICE_UNAVAILABLE, "too many nodes at once: try again soon".to_owned()))
            }
        }
    }

    /// To have objects in memory.
    async fn turn(&self, member: &Member) -> Result<Turn, Refused> {
        let turn = self.turns.take(&member.name).await;
        turn.ok_or_else(|| (StatusCode::SERVICE_UNAVAILABLE, "the hub is ending".to_owned()))
    }

    /// Something that may have to wait for a disk or another host.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Service>,
        work: impl FnOnce(&Service) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, Refused> {
        let service = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&service)).await;
        done.unwrap_or_else(|_| Err((StatusCode::INTERNAL_SERVER_ERROR, "the hub broke down".to_owned())))
    }
}

fn refused(error: &StoreError) -> Refused {
    let code = match error {
        StoreError::Unreachable(_) => StatusCode::BAD_GATEWAY,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (code, error.to_string())
}

fn answered(result: Result<Response, Refused>) -> Response {
    result.unwrap_or_else(|(code, why)| (code, format!("{why}\n")).into_response())
}

fn forbidden(name: &str) -> Refused {
    (StatusCode::FORBIDDEN, format!("{name} is not for this node"))
}

/// `GET NAME`: an object, or the names below a prefix.
async fn read(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    axum::Extension(guest): axum::Extension<Arc<Guest>>,
) -> Response {
    answered(read_object(&service, name, &headers, &guest).await)
}

/// Of one object.
fn limit_of(service: &Service, member: &Member, name: &str) -> Result<u64, Refused> {
    match readable(&member.name, name) {
        Some(Readable::All(limit)) => Ok(limit),
        Some(Readable::Object(hash)) => {
            let may = service.shelf.may_read(member, &hash, (service.clock)());
            if may.map_err(|error| refused(&error))? { Ok(LONGEST) } else { Err(forbidden(name)) }
        }
        Some(Readable::List) | None => Err(forbidden(name)),
    }
}

/// Notes that an object is handed out.
fn note(service: &Service, name: &str, object: Option<&Vec<u8>>) {
    if let Some(seq) = names::seq_in(name).filter(|_| object.is_some()) {
        service.shelf.handed_out(seq);
    }
}

async fn read_object(
    service: &Arc<Service>,
    name: String,
    headers: &HeaderMap,
    guest: &Guest,
) -> Result<Response, Refused> {
    let member = service.member(headers, guest).await?;
    if readable(&member.name, &name) == Some(Readable::List) {
        let list = move |service: &Service| service.objects.list(&name).map_err(|error| refused(&error));
        let names = service.blocking(list).await?;
        return Ok(names.iter().map(|name| format!("{name}\n")).collect::<String>().into_response());
    }
    let turn = service.turn(&member).await?;
    let get = move |service: &Service| {
        let limit = limit_of(service, &member, &name)?;
        let object = service.objects.get(&name, limit).map_err(|error| refused(&error))?;
        note(service, &name, object.as_ref());
        Ok(object)
    };
    let bytes = service.blocking(get).await?;
    let bytes = bytes.ok_or_else(|| (StatusCode::NOT_FOUND, "there is no such object".to_owned()))?;
    Ok(holding(turn, bytes))
}

/// The bytes as an answer. The turn lasts until the client has them.
fn holding(turn: Turn, bytes: Vec<u8>) -> Response {
    let length = bytes.len();
    let held = futures_util::stream::once(async move {
        let _turn = turn;
        Ok::<Bytes, std::convert::Infallible>(Bytes::from(bytes))
    });
    ([(header::CONTENT_LENGTH, length)], Body::from_stream(held)).into_response()
}

#[derive(Deserialize)]
struct Several {
    /// Separated by commas.
    names: String,
}

/// `GET several?names=NAME,NAME…`: these objects, in one answer.
async fn read_several(
    State(service): State<Arc<Service>>,
    Query(asked): Query<Several>,
    headers: HeaderMap,
    axum::Extension(guest): axum::Extension<Arc<Guest>>,
) -> Response {
    answered(several_objects(&service, asked, &headers, &guest).await)
}

async fn several_objects(
    service: &Arc<Service>,
    asked: Several,
    headers: &HeaderMap,
    guest: &Guest,
) -> Result<Response, Refused> {
    let member = service.member(headers, guest).await?;
    if asked.names.split(',').count() > several::MOST {
        return Err((StatusCode::BAD_REQUEST, format!("expected at most {} names", several::MOST)));
    }
    let turn = service.turn(&member).await?;
    let get = move |service: &Service| {
        let limited = |name| Ok((name, limit_of(service, &member, name)?.min(several::LONGEST)));
        let wanted = asked.names.split(',').map(limited).collect::<Result<Vec<(&str, u64)>, Refused>>()?;
        let objects = service.objects.get_all(&wanted).map_err(|error| refused(&error))?;
        wanted.iter().zip(&objects).for_each(|((name, _), object)| note(service, name, object.as_ref()));
        Ok(several::write(&objects))
    };
    Ok(holding(turn, service.blocking(get).await?))
}

/// `PUT NAME`: makes or replaces an object; with `If-None-Match: *` it is made, or 412.
async fn write(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    axum::Extension(guest): axum::Extension<Arc<Guest>>,
    request: Request,
) -> Response {
    answered(write_object(&service, name, request, &guest).await)
}

async fn write_object(
    service: &Arc<Service>,
    name: String,
    request: Request,
    guest: &Arc<Guest>,
) -> Result<Response, Refused> {
    let member = service.member(request.headers(), guest).await?;
    let most = writable(&member.name, &name).ok_or_else(|| forbidden(&name))?;
    let is_new_only = request.headers().get(header::IF_NONE_MATCH).is_some_and(|value| value == "*");
    let _quiet = guest.quiet();
    let _turn = service.turn(&member).await?;
    let most = usize::try_from(most.min(MAX_CHANGES)).unwrap_or(usize::MAX);
    let body = tokio::time::timeout(UPLOADING, axum::body::to_bytes(request.into_body(), most)).await;
    let body = match body {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return Err((
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("expected at most {most} bytes, or it broke off"),
            ));
        }
        Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "the upload took too long".to_owned())),
    };
    let put = move |service: &Service| {
        let made = match is_new_only {
            true => service.objects.create(&name, &body),
            false => service.objects.put(&name, &body).map(|()| Created::New),
        };
        made.map_err(|error| refused(&error))
    };
    Ok(match service.blocking(put).await? {
        Created::New => StatusCode::CREATED.into_response(),
        Created::There => StatusCode::PRECONDITION_FAILED.into_response(),
    })
}

#[derive(Deserialize)]
struct Waiting {
    /// `EPOCH.SEQ` of the newest publication that the node knows.
    after: String,
    /// In seconds.
    #[serde(default)]
    timeout: u64,
}

/// `GET wait?after=EPOCH.SEQ&timeout=SECONDS`: the newest publication, `EPOCH.SEQ`, as soon as it is a newer one; 204 when
/// there is none in that time.
async fn wait(
    State(service): State<Arc<Service>>,
    Query(waiting): Query<Waiting>,
    headers: HeaderMap,
    axum::Extension(guest): axum::Extension<Arc<Guest>>,
) -> Response {
    answered(wait_for(&service, &waiting, &headers, &guest).await)
}

async fn wait_for(
    service: &Arc<Service>,
    waiting: &Waiting,
    headers: &HeaderMap,
    guest: &Arc<Guest>,
) -> Result<Response, Refused> {
    service.member(headers, guest).await?;
    let number = |text: &str| text.parse::<u64>().ok();
    let after = waiting.after.split_once('.').and_then(|(epoch, seq)| Some((number(epoch)?, number(seq)?)));
    let after = after.ok_or_else(|| {
        (StatusCode::BAD_REQUEST, "expected after=EPOCH.SEQ, such as after=1.17".to_owned())
    })?;
    let _quiet = guest.quiet();
    let looking = Arc::clone(service);
    let look = move || {
        let service = Arc::clone(&looking);
        let newest =
            |service: &Service| service.shelf.newest((service.clock)()).map_err(|error| refused(&error));
        async move { service.blocking(newest).await }
    };
    let longest = Duration::from_secs(waiting.timeout.min(LONGEST_WAIT));
    match tokio::time::timeout(longest, service.waiters.newer(after, look)).await {
        Ok(newest) => newest.map(|(epoch, seq)| format!("{epoch}.{seq}\n").into_response()),
        Err(_) => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}
