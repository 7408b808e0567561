#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};

use super::*;
use crate::fetch::test_tls::tls;
use crate::node::Accept;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/efM1SjWYZMKpt9E4DN++GAPY3hm2zAmVLI0s4XRWT";
const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE3S91yHs/PeTECLiDVksr06hnmsy4TykL5+d8/70Laf";

/// A web server with a certificate of its own that gives every caller the same answer.
struct Server {
    port: u16,
    certificate: String,
    dir: tempfile::TempDir,
}

impl Server {
    /// With these bytes after TLS is there; none: nothing ever comes.
    fn new(answer: Option<Vec<u8>>) -> Server {
        let (tls, certificate) = tls("localhost");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let Some(answer) = &answer else {
                    silent.push(stream);
                    continue;
                };
                let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&tls)).unwrap(), stream);
                // Who does not trust the certificate hangs up here.
                if tls.read(&mut [0; 4096]).is_ok() {
                    let _ = tls.write_all(answer);
                    tls.conn.send_close_notify();
                    let _ = tls.flush();
                }
            }
        });
        Server { port, certificate, dir: tempfile::tempdir().unwrap() }
    }

    fn with_body(body: &str) -> Server {
        Server::new(Some(ok(body)))
    }

    fn main(&self) -> Main {
        Main::parse(&format!("localhost:{}", self.port)).unwrap()
    }

    fn ca(&self) -> Trust {
        let file: PathBuf = self.dir.path().join("ca.pem");
        fs::write(&file, &self.certificate).unwrap();
        Trust::File(file)
    }

    fn fetch(&self) -> anyhow::Result<PublicKey> {
        fetch_key(&self.main(), &self.ca(), None, fetch::SMALL)
    }
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn fingerprint(key: &str) -> Fingerprint {
    PublicKey::from_openssh(key).unwrap().fingerprint(HashAlg::Sha256)
}

fn refusal<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

#[test]
fn a_key_comes_from_a_server_that_is_trusted_or_whose_key_is_known() {
    let server = Server::with_body(&format!("{KEY} xds-sync main\n"));
    let expected = fingerprint(KEY);
    assert_eq!(server.fetch().unwrap().fingerprint(HashAlg::Sha256), expected);
    let fetch = |trust, expected| fetch_key(&server.main(), trust, expected, fetch::SMALL);
    assert!(fetch(&Trust::Anybody, Some(&expected)).is_ok());

    let error = fetch(&Trust::System, None).unwrap_err();
    assert!(error.is::<fetch::Untrusted>(), "{error:#}");
    // Another server's certificate.
    let other = Server::with_body("");
    let others = other.ca();
    let error = fetch(&others, None).unwrap_err();
    assert!(error.is::<fetch::Untrusted>(), "{error:#}");

    let wrong = fingerprint(OTHER);
    let text = refusal(fetch(&Trust::Anybody, Some(&wrong)));
    assert!(text.contains(&wrong.to_string()) && text.contains(&expected.to_string()), "{text}");
    assert!(refusal(fetch(&Trust::File("/nowhere/ca.pem".into()), None)).contains("/nowhere/ca.pem"));
}

#[test]
fn what_a_server_may_answer_instead_is_refused() {
    let large = "x".repeat(20_000);
    for (answer, said) in [
        (ok("<!doctype html>\n<p>Not here</p>"), "a web page, no public key: '<!doctype html>'"),
        (ok(&format!("{KEY}\n{OTHER}\n")), "several lines"),
        (ok(""), "the answer is empty"),
        (ok(&large), "more than 16384 bytes"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(), "the server answers 404 Not Found"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://localhost/key\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "it sends us on to http://localhost/key, which is not https",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: /ssh-key/rsync_xds.pub\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "it sends us on and on",
        ),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec(), "https://localhost:"),
    ] {
        let server = Server::new(Some(answer));
        let text = refusal(server.fetch());
        assert!(text.contains(said), "{said}: {text}");
        assert!(text.contains(&server.main().url.to_string()), "{text}");
    }
}

#[test]
fn a_server_that_is_silent_or_stops_in_the_middle_is_given_up() {
    let limits = Limits { total: Duration::from_millis(200), ..fetch::SMALL };
    let silent = Server::new(None);
    let text = refusal(fetch_key(&silent.main(), &Trust::Anybody, None, limits));
    assert!(text.contains("200ms") || text.contains("in time"), "{text}");

    let half = Server::new(Some(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nssh-ed25519 AAAA".to_vec()));
    assert!(half.fetch().is_err());
    let nobody = Main::parse("localhost:1").unwrap();
    assert!(refusal(fetch_key(&nobody, &Trust::Anybody, None, fetch::SMALL)).contains("refused"));
}

#[test]
fn exactly_one_public_key_is_a_key() {
    let short = short_rsa();
    for text in [KEY, &format!("{KEY} a comment"), &format!("\n{KEY} a b c\r\n\n")] {
        assert!(read_key(text.as_bytes()).is_ok(), "{text}");
    }
    let private = format!("-----BEGIN {}-----\nc2VjcmV0\n", "OPENSSH PRIVATE KEY");
    for (text, said) in [
        ("", "empty"),
        (" \n\n", "empty"),
        ("<html>", "a web page"),
        ("not a key", "no public key: 'not a key'"),
        (&format!("restrict {KEY}"), "options"),
        (&format!("command=\"sh\" {KEY}"), "options"),
        (&format!("# comment\n{KEY}"), "several lines"),
        (&format!("{KEY}\n{KEY}"), "several lines"),
        (&private, "PRIVATE key"),
        (&format!("{KEY}\n{private}"), "PRIVATE key"),
        ("ssh-ed25519 AAAA", "no public key"),
        (&KEY.replace("ssh-ed25519", "ssh-rsa"), "no public key"),
        (&short, "RSA with 1024 bits"),
        ("\u{1b}[2J", r"'\x1b[2J'"),
        (&"x".repeat(1000), "…'"),
    ] {
        let error = refusal(read_key(text.as_bytes()));
        assert!(error.contains(said), "{text}: {error}");
        assert!(!error.contains("c2VjcmV0") && error.len() < 400, "{error}");
    }
    assert!(read_key(b"\xff\xfe\x00").is_err());
}

/// One with a modulus of 1024 bits; whether it is the product of two primes, nobody asks.
fn short_rsa() -> String {
    use ssh_key::Mpint;
    use ssh_key::public::RsaPublicKey;
    let n = Mpint::from_positive_bytes(&[0xc5; 128]).unwrap();
    let e = Mpint::from_positive_bytes(&[1, 0, 1]).unwrap();
    PublicKey::from(RsaPublicKey { n, e }).to_openssh().unwrap()
}

#[test]
fn a_main_is_a_host_with_or_without_port_or_a_url() {
    for (typed, url, name) in [
        ("xivo", "https://xivo/ssh-key/rsync_xds.pub", "xivo"),
        ("10.0.0.10:8443", "https://10.0.0.10:8443/ssh-key/rsync_xds.pub", "10.0.0.10:8443"),
        ("2001:db8::1", "https://[2001:db8::1]/ssh-key/rsync_xds.pub", "2001:db8::1"),
        ("[2001:db8::1]:8443", "https://[2001:db8::1]:8443/ssh-key/rsync_xds.pub", "[2001:db8::1]:8443"),
        ("https://xivo", "https://xivo/ssh-key/rsync_xds.pub", "xivo"),
        ("https://xivo:8443/", "https://xivo:8443/ssh-key/rsync_xds.pub", "xivo:8443"),
        ("https://xivo/other/key", "https://xivo/other/key", "xivo"),
    ] {
        let main = Main::parse(typed).unwrap();
        assert_eq!((main.url.as_str(), main.name.as_str()), (url, name));
    }
    for typed in
        ["", "http://xivo", "ftp://xivo", "xivo/key", "a b", "root@xivo", "https://u:p@xivo", "x:y", "x\ny"]
    {
        assert!(Main::parse(typed).is_err(), "{typed}");
    }
}

#[test]
fn a_fingerprint_is_as_it_is_printed() {
    let printed = fingerprint(KEY).to_string();
    assert_eq!(read_fingerprint(&printed).unwrap(), fingerprint(KEY));
    for typed in ["", "SHA256:", "SHA256:short", "MD5:00:11", &printed["SHA256:".len()..]] {
        assert!(read_fingerprint(typed).is_err(), "{typed}");
    }
}

#[test]
fn the_nodes_file_is_made_once_and_says_what_holds_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/node.toml");
    let default = Accept::read(&path).unwrap();
    assert!(make_node_file(&path).unwrap());
    assert_eq!(Accept::read(&path).unwrap(), default);
    fs::write(&path, "read_only = true\n").unwrap();
    assert!(!make_node_file(&path).unwrap());
    assert_eq!(fs::read(&path).unwrap(), b"read_only = true\n");
}
