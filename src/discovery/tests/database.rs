use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::*;

/// A PostgreSQL server of its own, in a temporary directory; Debian's user postgres runs it.
struct Database {
    dir: tempfile::TempDir,
    port: u16,
    server: Child,
}

/// XiVO's table, with what it holds beside: Main itself.
const TABLE: &str =
    "CREATE TABLE mediaserver (id serial, name varchar(128), display_name text, voip_ip varchar(39));
    INSERT INTO mediaserver (name, display_name, voip_ip) VALUES
        ('default', 'MDS Main', '10.0.0.1'), ('mds1', 'Paris', '10.0.0.11'), ('mds2', 'Lyon', '10.0.0.12')";

impl Database {
    fn new() -> Database {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let data = dir.path().join("data");
        let initdb =
            as_postgres("initdb").args(["--auth=trust", "--no-sync", "--pgdata"]).arg(&data).output();
        let initdb = initdb.unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(dir.path().join("ca.pem"), made.cert.pem()).unwrap();
        for (name, pem) in [("server.crt", made.cert.pem()), ("server.key", made.signing_key.serialize_pem())]
        {
            let script = "umask 077; cat >\"$0\"";
            let mut write = as_user()
                .args(["bash", "-c", script])
                .arg(data.join(name))
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut write.stdin.take().unwrap(), pem.as_bytes()).unwrap();
            assert!(write.wait().unwrap().success());
        }
        let rules = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n";
        fs::write(data.join("pg_hba.conf"), rules).unwrap();

        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = ["fsync=off", "ssl=on", "listen_addresses=127.0.0.1"];
        let mut server = as_postgres("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(dir.path()).args(["-p", &port.to_string()]);
        settings.iter().for_each(|setting| {
            server.args(["-c", setting]);
        });
        let server = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut database = Database { dir, port, server };
        while !database.psql("postgres", "SELECT 1").status.success() {
            assert!(database.server.try_wait().unwrap().is_none(), "the server has ended");
            thread::yield_now();
        }
        for (name, command) in [("postgres", "CREATE DATABASE asterisk"), ("asterisk", TABLE)] {
            let done = database.psql(name, command);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        database
    }

    fn psql(&self, database: &str, command: &str) -> std::process::Output {
        let mut psql = Command::new(program("psql"));
        psql.arg("-h").arg(self.dir.path()).args(["-p", &self.port.to_string(), "-U", "postgres", "-qAt"]);
        psql.args(["-d", database, "-c", command]).output().unwrap()
    }

    fn sql(&self, command: &str) -> String {
        let done = self.psql("asterisk", command);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    fn socket(&self) -> String {
        let dir = self.dir.path().to_str().unwrap();
        format!("postgresql://postgres@/asterisk?host={dir}&port={}", self.port)
    }

    fn tcp(&self, password: &str, more: &str) -> String {
        format!("postgresql://xivo:{password}@127.0.0.1:{}/asterisk{more}", self.port)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Debian keeps each version's programs in a directory of its own.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").map(|dir| dir.flatten().collect::<Vec<_>>());
    let mut paths: Vec<PathBuf> =
        versions.unwrap_or_default().iter().map(|version| version.path().join("bin").join(name)).collect();
    paths.retain(|path| path.exists());
    paths.pop().unwrap_or_else(|| panic!("there is no {name}: scripts/test --setup installs PostgreSQL"))
}

/// PostgreSQL refuses to run as root. What runs so ends with the test.
fn as_user() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=KILL", "--"]);
    command.current_dir("/");
    command
}

fn as_postgres(name: &str) -> Command {
    let mut command = as_user();
    command.arg(program(name));
    command
}

fn configured(url: &str, query: &str) -> Config {
    let query = if query.is_empty() { String::new() } else { format!("query = {query:?}\n") };
    config(&format!("[sync]\ntimeout = \"5s\"\n[discovery.postgres]\nurl = {url:?}\n{query}"))
}

#[test]
fn the_mediaserver_table_names_nodes() {
    let database = Database::new();
    let found = |query: &str| found(&configured(&database.socket(), query), &Answers::default());
    let both = "mds1=10.0.0.11 mds2=10.0.0.12";
    let first = found("");
    assert_eq!((told(&first), &first.failures, &first.warnings), (both.to_owned(), &vec![], &vec![]));
    assert_eq!(
        told(&found("SELECT name::name, voip_ip::inet FROM mediaserver WHERE id > 2;")),
        "mds2=10.0.0.12"
    );

    database.sql("INSERT INTO mediaserver (name, voip_ip) VALUES ('mds3', NULL), ('a b', '10.0.0.13')");
    let third = found("");
    assert_eq!(told(&third), both);
    let ends = ["row 4 (mds3) has no address", "row 5: \"a b\" is no host's name"];
    assert!(
        third.warnings.iter().zip(ends).all(|(warning, end)| warning.ends_with(end)),
        "{:?}",
        third.warnings
    );
    assert_eq!(third.warnings.len(), 2);

    for (query, expected) in [
        ("SELECT name FROM mediaserver", "the query gives 1 columns, and not two: name and address"),
        ("SELECT * FROM mediaserver", "the query gives 4 columns"),
        ("SELECT name, ip FROM mediaserver", "the query: ERROR: column \"ip\" does not exist"),
        (
            "DELETE FROM mediaserver RETURNING name, voip_ip",
            "cannot execute DELETE in a read-only transaction",
        ),
        ("nonsense", "syntax error"),
    ] {
        let failures = found(query).failures;
        assert!(failures[0].contains(expected), "{query}: {failures:?}");
    }
    assert_eq!(database.sql("SELECT count(*) FROM mediaserver"), "5");
}

#[test]
fn rows_beyond_what_can_be_meant_are_not_read() {
    let database = Database::new();
    for (query, expected) in [
        // Some hours' worth of rows.
        (
            "SELECT 'mds' || generate_series(1, 1000000000000), '10.0.0.1'",
            "it names more than 10000 nodes, which cannot be meant",
        ),
        ("SELECT repeat('x', 1000000), generate_series(1, 1000000)::text", "it is longer than 4194304 bytes"),
    ] {
        let failure = failure(&configured(&database.socket(), query));
        assert!(failure.contains(expected), "{failure}");
    }
}

#[test]
fn a_query_that_takes_too_long_is_given_up_at_both_ends() {
    let database = Database::new();
    let mut config = configured(&database.socket(), "SELECT 'mds1', pg_sleep(600)::text");
    config.sync.timeout = Duration::from_secs(1);
    let failure = failure(&config);
    let expected = ["the query was not answered within 1s", "statement timeout"];
    assert!(expected.iter().any(|expected| failure.contains(expected)), "{failure}");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'xds-sync'";
    while database.sql(running) != "0" {
        thread::yield_now();
    }
}

#[test]
fn over_the_network_it_is_encrypted_and_a_password_is_never_told() {
    let database = Database::new();
    database.sql("CREATE ROLE xivo LOGIN PASSWORD 's3cret'; GRANT SELECT ON mediaserver TO xivo");
    let ca = database.dir.path().join("ca.pem");
    let trusting = format!("?sslmode=verify-full&sslrootcert={}", ca.display());
    for more in ["", "?sslmode=require", &trusting] {
        let found = found(&configured(&database.tcp("s3cret", more), ""), &Answers::default());
        assert_eq!(told(&found), "mds1=10.0.0.11 mds2=10.0.0.12", "{more}: {:?}", found.failures);
    }
    for (password, more, expected) in [
        ("wr0ng", "", "password authentication failed"),
        ("s3cret", "?sslmode=disable", "no pg_hba.conf entry"),
        ("s3cret", "?sslmode=verify-full", "certificate"),
    ] {
        let failure = failure(&configured(&database.tcp(password, more), ""));
        assert!(failure.contains(expected), "{failure}");
        assert!(failure.starts_with("discovery.postgres (postgresql://xivo:***@127.0.0.1:"), "{failure}");
        assert!(!failure.contains(password), "{failure}");
    }
}

#[test]
fn a_server_that_is_away_or_silent_is_told() {
    let away = tempfile::tempdir().unwrap();
    let url = format!("postgresql:///asterisk?host={}&user=x", away.path().display());
    assert!(failure(&configured(&url, "")).contains("error connecting to server: No such file"));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = configured(&format!("postgresql://u:p@{}/x", silent.local_addr().unwrap()), "");
    config.sync.timeout = Duration::from_secs(1);
    assert!(failure(&config).contains("it did not let us in within 1s"));
    // What answers there is no PostgreSQL.
    let thread = thread::spawn(move || {
        let (mut stream, _) = silent.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        silent
    });
    let config = configured(&config.discovery.postgres.unwrap().url, "");
    assert!(failure(&config).contains("discovery.postgres"));
    thread.join().unwrap();
}
