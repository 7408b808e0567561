//! With the real nginx, from a configuration of its own.
#![allow(clippy::unwrap_used)]

use std::fs::Permissions;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Child;

use super::*;

/// A site below a directory of its own, and an nginx that reads its locations.
struct Nginx {
    dir: tempfile::TempDir,
    site: Site,
    port: u16,
    running: Option<Child>,
}

impl Nginx {
    fn new() -> Nginx {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        // nginx's workers are not root.
        fs::set_permissions(base, Permissions::from_mode(0o755)).unwrap();
        for made in ["locations/https-available", "locations/https-enabled", "logs"] {
            fs::create_dir_all(base.join(made)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let conf = format!(
            "daemon off;\npid {0}/pid;\nerror_log {0}/logs/error;\nevents {{}}\nhttp {{\n access_log off;\n \
             server {{\n  listen 127.0.0.1:{port};\n  include {0}/locations/https-enabled/*;\n }}\n}}\n",
            base.display()
        );
        fs::write(base.join("nginx.conf"), conf).unwrap();
        let mut nginx: Vec<OsString> = vec!["nginx".into(), "-p".into(), base.into(), "-c".into()];
        nginx.push(base.join("nginx.conf").into());
        nginx.push("-e".into());
        nginx.push(base.join("logs/error").into());
        let site = Site { certs: base.join("certs"), locations: base.join("locations"), nginx };
        Nginx { dir, site, port, running: None }
    }

    fn start(&mut self) {
        let (program, args) = self.site.nginx.split_first().unwrap();
        self.running = Some(Command::new(program).args(args).spawn().unwrap());
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            std::thread::yield_now();
        }
        // Connections are taken before the process is written down.
        while fs::read_to_string(self.dir.path().join("pid")).unwrap_or_default().is_empty() {
            std::thread::yield_now();
        }
    }

    /// Asks until nginx's new workers answer.
    fn get(&self, path: &str, expected: &str) {
        use std::io::Read as _;
        loop {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
            write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            if answer.ends_with(expected) {
                return;
            }
        }
    }

    fn enabled(&self, name: &str) -> PathBuf {
        self.site.enabled().join(name)
    }

    fn is_fine(&self) -> bool {
        self.site.nginx(&["-t"]).is_ok()
    }

    /// Every name below the locations, to see that nothing is left over.
    fn names(&self) -> Vec<String> {
        let dirs = [self.site.available(), self.site.enabled()];
        let entries = dirs.iter().flat_map(|dir| fs::read_dir(dir).unwrap());
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = self.site.nginx(&["-s", "stop"]);
            let _ = child.wait();
        }
    }
}

#[test]
fn a_running_nginx_serves_the_key_from_then_on() {
    let mut nginx = Nginx::new();
    nginx.start();
    let key = nginx.dir.path().join("key.pub");
    fs::write(&key, "ssh-ed25519 AAAA main\n").unwrap();
    assert!(nginx.site.copy_key(&key).unwrap());
    assert!(nginx.site.copy_download("xds-sync", b"program").unwrap());
    assert_eq!(nginx.site.serve_with_nginx().unwrap(), Served::Made);
    nginx.get(PATH, "\r\n\r\nssh-ed25519 AAAA main\n");
    nginx.get("/xds-sync/xds-sync", "\r\n\r\nprogram");

    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let file = nginx.enabled(OWN);
    let before = inode(&file);
    assert!(!nginx.site.copy_key(&key).unwrap());
    assert!(!nginx.site.copy_download("xds-sync", b"program").unwrap());
    assert_eq!(nginx.site.serve_with_nginx().unwrap(), Served::Kept);
    assert_eq!(inode(&file), before, "again changes nothing");
    assert_eq!(nginx.names(), [OWN, OWN]);
}

#[test]
fn a_stopped_nginx_reads_it_when_it_starts() {
    let mut nginx = Nginx::new();
    assert!(matches!(nginx.site.serve_with_nginx().unwrap(), Served::Unread(_)));
    assert!(nginx.is_fine());
    nginx.start();
    nginx.get("/xds-sync/nothing", "</html>\r\n");
}

#[test]
fn a_broken_nginx_is_left_as_it_was() {
    let nginx = Nginx::new();
    fs::write(nginx.enabled("broken"), "location { \n").unwrap();
    let error = nginx.site.serve_with_nginx().unwrap_err().to_string();
    assert!(error.contains("nginx -t fails, so nothing was added") && error.contains("broken"), "{error}");
    assert_eq!(nginx.names(), ["broken"]);
    fs::remove_file(nginx.enabled("broken")).unwrap();
    assert!(nginx.is_fine());
}

#[test]
fn a_location_that_nginx_does_not_accept_is_taken_back() {
    let mut nginx = Nginx::new();
    // A location for our downloads, which does not serve the key: together they are one too many.
    fs::write(nginx.enabled("other"), "location /xds-sync/ { return 404; }\n").unwrap();
    let error = nginx.site.serve_with_nginx().unwrap_err().to_string();
    assert!(error.contains("duplicate location") && error.contains("taken back"), "{error}");
    assert_eq!(nginx.names(), ["other"]);
    assert!(nginx.is_fine());

    fs::remove_file(nginx.enabled("other")).unwrap();
    nginx.site.nginx = vec!["/nowhere/nginx".into()];
    assert!(nginx.site.serve_with_nginx().is_err());
    assert!(nginx.names().is_empty(), "no nginx, no link");
}

#[test]
fn a_renewed_location_that_is_not_accepted_becomes_the_old_one() {
    let nginx = Nginx::new();
    nginx.site.serve_with_nginx().unwrap();
    let file = nginx.site.available().join(OWN);
    fs::write(&file, "# of an older version\n").unwrap();
    fs::write(nginx.enabled("other"), "location /xds-sync/ { return 404; }\n").unwrap();
    assert!(nginx.site.serve_with_nginx().is_err());
    assert_eq!(fs::read_to_string(&file).unwrap(), "# of an older version\n");
    assert!(nginx.enabled(OWN).exists() && nginx.is_fine());
}

#[test]
fn a_dangling_link_of_ours_leads_somewhere_again() {
    let nginx = Nginx::new();
    nginx.site.serve_with_nginx().unwrap();
    fs::remove_file(nginx.site.available().join(OWN)).unwrap();
    assert!(!nginx.is_fine());
    nginx.site.serve_with_nginx().unwrap();
    assert!(nginx.is_fine());
}

#[test]
fn who_serves_the_key_already_goes_on() {
    let nginx = Nginx::new();
    let other = nginx.enabled("xivo-certs");
    fs::write(&other, "location ^~ /ssh-key {\n alias /usr/share/xivo-certs;\n}\n").unwrap();
    assert_eq!(nginx.site.serve_with_nginx().unwrap(), Served::By(other));
    assert_eq!(nginx.names(), ["xivo-certs"]);
}

#[test]
fn locations_that_serve_the_key() {
    for (snippet, serves) in [
        ("location = /ssh-key/rsync_xds.pub { alias /x; }", true),
        ("location =/ssh-key/rsync_xds.pub{ alias /x; }", true),
        ("location /ssh-key/{", true),
        ("location ^~ /ssh-key\n{", true),
        ("location \"/ssh-key/\" {", true),
        ("location ~ ^/ssh-key/.*\\.pub$ {", true),
        ("# location /ssh-key/ {", false),
        ("location / {", false),
        ("location = / {", false),
        ("location = /ssh-key/other.pub {", false),
        ("location /ssh-keys/ {", false),
        ("location /api/ { proxy_pass http://x/ssh-key/; }", false),
        ("", false),
    ] {
        assert_eq!(serves_key(snippet), serves, "{snippet}");
    }
}

#[test]
fn the_hub_is_opened_in_a_file_whose_other_lines_stay() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("conf.d/hub.toml");
    let open = "0.0.0.0:8443".parse().unwrap();
    set_hub_listen(&file, open).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), "[hub]\nlisten = \"0.0.0.0:8443\"\n");
    fs::write(
        &file,
        "# ours\n[hub] # here\ntoken_file = \"/x\"\nlisten = \"127.0.0.1:1\" # why\n\n[sync]\nparallel = 2\n",
    )
    .unwrap();
    set_hub_listen(&file, open).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        text.starts_with("# ours\n[hub] # here\ntoken_file = \"/x\"\nlisten = \"0.0.0.0:8443\""),
        "{text}"
    );
    assert!(text.ends_with("\n\n[sync]\nparallel = 2\n"), "{text}");
    fs::write(&file, "hub = 1\n").unwrap();
    assert!(set_hub_listen(&file, open).is_err());
    assert_eq!(fs::read_to_string(&file).unwrap(), "hub = 1\n");
}
