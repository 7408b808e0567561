//! Two S3 services on loopback, each with an empty bucket named `bucket`. They are independent of each other: moto looks at
//! no signature and does the rest as Amazon does; s3s-fs checks signatures (SigV4) and keeps objects as files.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::runtime::{Builder, Runtime};

use super::wait;

/// What the services know a client by.
pub const ACCESS_KEY: &str = "xds";
pub const SECRET_KEY: &str = "very-secret";

/// Where cargo builds, and `scripts/setup test` puts what tests need.
fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"))
}

/// A service, until it is dropped.
pub struct S3 {
    endpoint: String,
    _running: Running,
}

#[allow(dead_code)] // Held for what happens when they are dropped.
enum Running {
    Process(Process),
    Threads(Runtime, tempfile::TempDir),
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl S3 {
    /// moto's, in a place of its own made by `scripts/setup test`.
    pub fn moto() -> S3 {
        let server = target().join("moto/bin/moto_server");
        assert!(server.exists(), "{} is missing: run scripts/setup test", server.display());
        // Given back at once: whoever takes it in between makes the test fail, and no other.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(server);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let process = Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        wait::eventually("an answer of moto", wait::LIMIT, || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        let endpoint = format!("http://127.0.0.1:{port}");
        let made =
            Command::new("curl").args(["-sf", "-X", "PUT", &format!("{endpoint}/bucket")]).status().unwrap();
        assert!(made.success());
        S3 { endpoint, _running: Running::Process(process) }
    }

    /// s3s-fs, in this process.
    pub fn s3s_fs() -> S3 {
        S3::s3s_fs_at("127.0.0.1:0", &std::env::temp_dir())
    }

    /// The same, at an address; its objects lie below a directory.
    pub fn s3s_fs_at(address: &str, below: &Path) -> S3 {
        let root = tempfile::tempdir_in(below).unwrap();
        std::fs::create_dir(root.path().join("bucket")).unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = TcpListener::bind(address).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(serve(listener, service(root.path())));
        S3 { endpoint, _running: Running::Threads(runtime, root) }
    }

    /// The options that a `[store]` with `url = "s3://bucket/…"` needs.
    pub fn options(&self) -> String {
        options(&self.endpoint)
    }
}

/// The options of a store at a service.
pub fn options(endpoint: &str) -> String {
    format!(
        "options = {{ endpoint = \"{endpoint}\", region = \"eu-west-1\", access_key_id = \"{ACCESS_KEY}\", secret_access_key = \
         \"{SECRET_KEY}\" }}"
    )
}

fn service(root: &Path) -> S3Service {
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    service.build()
}

async fn serve(listener: TcpListener, service: S3Service) {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let served = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(served);
    }
}
