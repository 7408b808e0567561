use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use thread::JoinHandle;

use rustls::{ServerConnection, StreamOwned};

use super::*;
use crate::fetch::test_tls::tls;

/// A TLS server that answers one request, and then tells what it was asked.
struct Server {
    dir: tempfile::TempDir,
    address: SocketAddr,
    thread: JoinHandle<String>,
}

impl Server {
    fn new(answer: impl FnOnce(SocketAddr) -> String + Send + 'static) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let (tls, certificate) = tls("127.0.0.1");
        fs::write(dir.path().join("ca.pem"), certificate).unwrap();
        fs::write(dir.path().join("headers"), "X-Token: secret\n").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let connection = ServerConnection::new(tls).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let asked = head(&mut stream);
            let _ = stream.write_all(answer(address).as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
            asked
        });
        Server { dir, address, thread }
    }

    fn config(&self, more: &str) -> Config {
        let path = |name| self.dir.path().join(name);
        config(&format!(
            "[sync]\ntimeout = \"1s\"\n[discovery.http]\nurl = \"https://{}/mds?token=secret\"\nca = {:?}\n\
             headers_file = {:?}\n{more}",
            self.address,
            path("ca.pem"),
            path("headers")
        ))
    }
}

/// A request up to its empty line.
fn head(stream: &mut impl std::io::Read) -> String {
    let mut head = String::new();
    let mut lines = BufReader::new(stream);
    while lines.read_line(&mut head).unwrap_or(0) > 2 {}
    head
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[test]
fn a_document_names_nodes() {
    let server = Server::new(|_| {
        ok(
            "{\"mds\":[{\"id\":1,\"n\":\"mds1\",\"ip\":\"10.0.0.11\"},{\"n\":\"default\",\"ip\":\"10.0.0.1\"},\
            {\"n\":\"mds2\",\"ip\":null}]}",
        )
    });
    let config = server.config("items = \"/mds\"\nname = \"/n\"\naddress = \"/ip\"\n");
    let found = found(&config, &Answers::default());
    assert_eq!((told(&found), &found.failures), ("mds1=10.0.0.11".to_owned(), &vec![]));
    assert_eq!(found.warnings.len(), 1);
    assert!(found.warnings[0].ends_with("item 3 (mds2) has no address"), "{:?}", found.warnings);
    let asked = server.thread.join().unwrap();
    assert!(asked.starts_with("GET /mds?token=secret HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("x-token: secret\r\n"), "{asked}");
}

#[test]
fn what_is_no_answer_is_told_without_secrets() {
    type Answer = fn(SocketAddr) -> String;
    let cases: [(Answer, &str); 8] = [
        (|_| ok("<!DOCTYPE html><p>log in"), "its answer is a web page"),
        (|_| ok("{\"items\":[}"), "its answer is no JSON"),
        (|_| ok("{\"error\":\"token=secret\"}"), "there is no list at /items"),
        (
            |_| ok("{\"items\":[{\"name\":\"mds1\"}]}"),
            "none of what it says is a node: item 1 (mds1) has no address",
        ),
        (|_| "HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\n\r\n".to_owned(), "answers 500"),
        (
            |address| {
                format!("HTTP/1.1 302 DiscoveredNode\r\nLocation: http://{address}/x?token=secret\r\n\r\n")
            },
            "it sends us on to http://127.0.0.1:",
        ),
        (
            |_| "HTTP/1.1 301 Moved\r\nLocation: https://elsewhere.example.org/\r\n\r\n".to_owned(),
            "it sends us on to https://elsewhere.example.org; if that is right",
        ),
        (
            |_| "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\n[".to_owned(),
            "reading the answer",
        ),
    ];
    for (answer, expected) in cases {
        let server = Server::new(answer);
        let failure = failure(&server.config(""));
        assert!(failure.contains(expected), "{failure}");
        assert!(failure.starts_with("discovery.http (https://127.0.0.1:"), "{failure}");
        assert!(failure.contains("token=***") && !failure.contains("secret"), "{failure}");
        server.thread.join().unwrap();
    }
}

#[test]
fn an_answer_without_end_is_given_up() {
    let server = Server::new(|_| ok(&"x".repeat(usize::try_from(LIMIT).unwrap() + 1)));
    assert!(failure(&server.config("")).contains("has more than 4194304 bytes"));
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for url in ["http", "https"] {
        let address = silent.local_addr().unwrap();
        let config =
            config(&format!("[sync]\ntimeout = \"1s\"\n[discovery.http]\nurl = \"{url}://{address}/\"\n"));
        let failure = failure(&config);
        assert!(failure.contains("no answer in time") || failure.contains("no whole answer"), "{failure}");
    }
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let server = Server::new(|_| ok("{\"items\":[]}"));
    let config = config(&format!("[discovery.http]\nurl = \"https://{}/\"\n", server.address));
    assert!(failure(&config).contains("its certificate is not trusted"));
}

#[test]
fn without_encryption_it_is_asked_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
        head(&mut stream);
        stream.write_all(ok("[{\"name\":\"mds1\",\"voip_ip\":\"10.0.0.11\"}]").as_bytes()).unwrap();
    });
    let config = config(&format!("[discovery.http]\nurl = \"http://{address}/\"\nitems = \"\"\n"));
    assert_eq!(told(&found(&config, &Answers::default())), "mds1=10.0.0.11");
    thread.join().unwrap();
}
