//! A store behind a hub, over HTTPS: what a node asks for that reaches no other.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{AUTHORIZATION, IF_NONE_MATCH};
use reqwest::redirect::Policy;
use reqwest::{Method, Proxy, StatusCode, Url};

use super::{Asker, Created, Objects, StoreSpec};
use crate::fetch::{self, Trust};
use crate::store::{StoreError, pass, several};

/// For connecting.
const CONNECTING: Duration = Duration::from_secs(10);
/// For one object, whichever way it goes.
const LONGEST: Duration = Duration::from_secs(600);
/// How long a pass is shown before a new one is made. It is good for ten minutes, clocks that differ included.
const PASS: Duration = Duration::from_secs(120);
/// How long an idle connection is kept: the hub keeps one for ten seconds.
const IDLE: Duration = Duration::from_secs(5);
/// How much longer than the hub waits the answer may take.
const GRACE: Duration = Duration::from_secs(15);
/// Longest word of refusal that is read.
const MAX_REFUSAL: u64 = 1024;
/// Where several objects are asked for.
const SEVERAL: &str = "v1/several";
/// Longest list of names.
const MAX_LIST: u64 = 64 << 20;

struct Hub {
    /// As the configuration has it.
    url: String,
    /// The node that asks, and what it signs with.
    name: String,
    identity: PathBuf,
    clock: fn() -> SystemTime,
    /// Ends with a slash.
    base: Url,
    client: Client,
    pass: Mutex<Option<(SystemTime, String)>>,
}

/// Opens the store of a hub. Nothing is asked of it yet.
pub(super) fn open(spec: &StoreSpec, asker: Asker<'_>) -> Result<Arc<dyn Objects>, StoreError> {
    let wrong = |why: String| StoreError::Local(format!("store.url = \"{}\": {why}", spec.url));
    let base = Url::parse(&format!("{}/", spec.url.trim_end_matches('/')));
    let base = base.map_err(|error| wrong(error.to_string()))?;
    if base.scheme() != "https" || base.host_str().is_none() || !base.username().is_empty() {
        return Err(wrong("expected a URL such as \"https://main:8443/store\"".to_owned()));
    }
    let trust = spec.ca.clone().map_or(Trust::System, Trust::File);
    let tls = fetch::tls(&trust).map_err(|error| StoreError::local(&error))?;
    let mut client = Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .redirect(Policy::none())
        .pool_idle_timeout(IDLE)
        .connect_timeout(CONNECTING)
        .timeout(LONGEST);
    if let Some(proxy) = &spec.proxy {
        // Its address may hold a password.
        let proxy = Proxy::all(proxy).map_err(|_| {
            StoreError::Local("store.proxy: expected a URL such as \"http://proxy:3128\"".to_owned())
        })?;
        client = client.proxy(proxy);
    }
    let client = client.build().map_err(|error| wrong(error.to_string()))?;
    Ok(Arc::new(Hub {
        url: spec.url.clone(),
        name: asker.name.to_owned(),
        identity: asker.identity.to_owned(),
        clock: asker.clock,
        base,
        client,
        pass: Mutex::default(),
    }))
}

impl Hub {
    fn url(&self, name: &str) -> Result<Url, StoreError> {
        self.base.join(name).map_err(|error| StoreError::Local(format!("{name:?}: {error}")))
    }

    /// A pass that is good for some minutes more.
    fn pass(&self) -> Result<String, StoreError> {
        let now = (self.clock)();
        let mut held = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, pass)) = &*held
            && now.duration_since(*made).is_ok_and(|age| age < PASS)
        {
            return Ok(pass.clone());
        }
        let pass = pass::make(&self.identity, &self.name, now)?;
        *held = Some((now, pass.clone()));
        Ok(pass)
    }

    fn ask(&self, method: Method, url: Url) -> Result<RequestBuilder, StoreError> {
        Ok(self.client.request(method, url).header(AUTHORIZATION, self.pass()?))
    }

    fn send(&self, request: RequestBuilder) -> Result<Response, StoreError> {
        request.send().map_err(|error| self.unreachable(fetch::explained(error)))
    }

    fn unreachable(&self, error: anyhow::Error) -> StoreError {
        let advice = match error.is::<fetch::Untrusted>() {
            true => "; name the hub's certificate with store.ca in node.toml",
            false => "",
        };
        StoreError::Unreachable(format!("{}: {error:#}{advice}", self.url))
    }

    /// At most `limit` bytes of an answer.
    fn body(&self, answer: Response, name: &str, limit: u64) -> Result<Vec<u8>, StoreError> {
        let mut body = Vec::new();
        let read = answer.take(limit.saturating_add(1)).read_to_end(&mut body);
        read.map_err(|error| StoreError::Unreachable(format!("{}: {name} broke off: {error}", self.url)))?;
        if body.len() as u64 > limit {
            return Err(StoreError::Tampered(format!(
                "{}: {name} has more than the {limit} bytes that it may have",
                self.url
            )));
        }
        Ok(body)
    }

    /// What an answer says that is no success.
    fn refusal(&self, answer: Response, name: &str) -> StoreError {
        let status = answer.status();
        let mut why = String::new();
        // Without a reason the status has to do.
        let _ = answer.take(MAX_REFUSAL).read_to_string(&mut why);
        let why = why.lines().next().unwrap_or_default().trim();
        let detail = format!("{}: {name}: {status}{}{why}", self.url, if why.is_empty() { "" } else { ": " });
        let may_pass = status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT;
        if may_pass { StoreError::Unreachable(detail) } else { StoreError::Refused(detail) }
    }
}

impl Objects for Hub {
    fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let answer = self.send(self.ask(Method::GET, self.url(name)?)?)?;
        match answer.status() {
            StatusCode::OK => self.body(answer, name, limit).map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.refusal(answer, name)),
        }
    }

    fn get_all(&self, wanted: &[(&str, u64)]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
        let mut url = self.url(SEVERAL)?;
        url.set_query(Some(&format!("names={}", names.join(","))));
        let answer = self.send(self.ask(Method::GET, url)?)?;
        if answer.status() != StatusCode::OK {
            return Err(self.refusal(answer, SEVERAL));
        }
        let most = wanted.iter().fold(0u64, |sum, (_, limit)| sum.saturating_add(limit + several::LINE));
        several::read(&self.body(answer, SEVERAL, most)?, wanted)
            .map_err(|error| error.while_doing(&self.url))
    }

    fn at_once(&self) -> usize {
        several::MOST
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<Created, StoreError> {
        let request = self.ask(Method::PUT, self.url(name)?)?.header(IF_NONE_MATCH, "*");
        let answer = self.send(request.body(bytes.to_vec()))?;
        match answer.status() {
            StatusCode::CREATED => Ok(Created::New),
            StatusCode::PRECONDITION_FAILED => Ok(Created::There),
            _ => Err(self.refusal(answer, name)),
        }
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let request = self.ask(Method::PUT, self.url(name)?)?;
        let answer = self.send(request.body(bytes.to_vec()))?;
        match answer.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(self.refusal(answer, name)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let answer = self.send(self.ask(Method::GET, self.url(prefix)?)?)?;
        if answer.status() != StatusCode::OK {
            return Err(self.refusal(answer, prefix));
        }
        let names = self.body(answer, prefix, MAX_LIST)?;
        let names = String::from_utf8(names);
        let names = names.map_err(|_| StoreError::Tampered(format!("{}: a list is no text", self.url)))?;
        Ok(names.lines().filter(|name| name.starts_with(prefix)).map(str::to_owned).collect())
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        Err(StoreError::Refused(format!("{}: {name}: a hub deletes nothing", self.url)))
    }

    fn place(&self) -> &str {
        &self.url
    }

    fn wait(&self, (epoch, seq): (u64, u64), longest: Duration) -> Result<bool, StoreError> {
        let mut url = self.url("v1/wait")?;
        url.set_query(Some(&format!("after={epoch}.{seq}&timeout={}", longest.as_secs())));
        let answer = self.send(self.ask(Method::GET, url)?.timeout(longest + GRACE))?;
        match answer.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NO_CONTENT => Ok(false),
            _ => Err(self.refusal(answer, "v1/wait")),
        }
    }

    fn can_wait(&self) -> bool {
        true
    }
}
