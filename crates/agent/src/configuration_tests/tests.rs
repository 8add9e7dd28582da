use super::choose::{Chosen, choose};
use super::table::{ROWS, When};
use super::*;
use std::os::unix::fs::PermissionsExt as _;

struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        root.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\nmysql:x:110:111::/:/bin/false\npostgres:x:5:6::/:/\nopenldap:x:7:8::/:/\n", 0o644);
        root
    }
    fn file(&self, path: &str, text: &str, mode: u32) {
        let path = self.0.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fn program(&self, path: &str) {
        self.file(path, "#!/bin/sh\n", 0o755);
    }
    fn chosen(&self) -> BTreeMap<String, What> {
        let nowhere = self.0.path().join("nowhere");
        choose(self.0.path(), &nowhere)
            .into_iter()
            .map(|Chosen { name, what }| (name, what))
            .collect()
    }
    fn arguments(&self, name: &str) -> String {
        match &self.chosen()[name] {
            What::Run { arguments, .. } => arguments.join(" "),
            What::Own(_) | What::CronTables => String::new(),
        }
    }
}

#[test]
fn the_operators_own_tests_are_run_and_a_failing_one_says_why() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text, mode) in [
        ("good", "#!/bin/sh\nexit 0\n", 0o755),
        ("bad", "#!/bin/sh\necho the database is not reachable >&2\nexit 4\n", 0o755),
        ("README", "#!/bin/sh\nexit 1\n", 0o644),
        ("anybodys", "#!/bin/sh\nexit 0\n", 0o775),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let Ran { passed, broken, untrusted } = run_all(dir.path(), &[]);
    assert!(passed.contains(&"tests.d/good".to_owned()));
    assert_eq!(broken["tests.d/bad"], "exit code 4: the database is not reachable");
    let named = |name: &str| passed.iter().chain(broken.keys()).any(|n| n.contains(name));
    assert!(!named("README"));
    assert!(!named("anybodys"), "it is not run, and is not one that holds");
    assert!(untrusted["tests.d/anybodys"].contains("can be written by others"), "{untrusted:?}");
    assert_eq!(untrusted.len(), 1);
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let ran = run_all(dir.path(), &[]);
    assert!(!ran.passed.iter().any(|name| name.starts_with("tests.d/")));
    let names: Vec<&String> = ran.untrusted.keys().collect();
    assert_eq!(names, ["tests.d", "tests.d/anybodys", "tests.d/bad", "tests.d/good"]);
}

#[test]
fn a_row_applies_where_its_program_and_its_configuration_are_and_nowhere_else() {
    for row in ROWS {
        let path = if row.program.starts_with('/') {
            row.program.to_owned()
        } else {
            format!("/usr/sbin/{}", row.program)
        };
        let configure = |root: &Root| match row.when {
            When::There(path) | When::Without(path, _) => {
                if !root.0.path().join(path.trim_start_matches('/')).exists() {
                    root.file(path, "", 0o755);
                }
            }
            When::Says(directory, words) => root.file(&format!("{directory}/a"), words[0], 0o644),
        };
        let root = Root::new();
        assert!(!root.chosen().contains_key(row.name), "{} without anything", row.name);
        configure(&root);
        let bash = row.name == "bash";
        assert_eq!(root.chosen().contains_key(row.name), bash, "{} without its program", row.name);
        root.program(&path);
        let chosen = root.chosen();
        let Some(What::Run { program, arguments, user }) = chosen.get(row.name) else {
            panic!("{} does not apply: {chosen:?}", row.name);
        };
        assert_eq!(program.to_str(), Some(path.as_str()));
        assert_eq!(arguments.iter().map(String::as_str).collect::<Vec<_>>(), row.arguments);
        assert_eq!(user.is_some(), row.user.is_some());
        if let When::Without(_, other) = row.when {
            root.program(other);
            let other = root.chosen();
            assert!(
                !other.contains_key(row.name)
                    || ROWS.iter().filter(|r| r.name == row.name).count() > 1,
                "{}",
                row.name
            );
        }
        if let Some(name) = row.user {
            root.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\n", 0o644);
            assert!(!root.chosen().contains_key(row.name), "{} without {name}", row.name);
        }
    }
}

#[test]
fn mariadb_is_never_asked_the_way_mysql_is() {
    let root = Root::new();
    root.file("/etc/mysql/my.cnf", "", 0o644);
    root.program("/usr/sbin/mysqld");
    assert_eq!(root.arguments("mysql"), "--validate-config");
    root.program("/usr/sbin/mariadbd");
    assert!(!root.chosen().contains_key("mysql"));
    assert_eq!(
        root.chosen()["mariadb"],
        What::Run {
            program: "/usr/sbin/mariadbd".into(),
            arguments: vec!["--verbose".into(), "--help".into()],
            user: Some((110, 111))
        }
    );
}

#[test]
fn each_haproxy_configuration_that_a_unit_names_is_checked_with_its_variables() {
    let root = Root::new();
    root.program("/usr/sbin/haproxy");
    root.file("/etc/haproxy/haproxy.cfg", "", 0o644);
    assert_eq!(root.arguments("haproxy"), "-c -q -f /etc/haproxy/haproxy.cfg");
    root.file(
        "/lib/systemd/system/haproxy.service",
        "[Service]\nEnvironmentFile=-/etc/default/haproxy\nEnvironment=\"CONFIG=/etc/haproxy/haproxy.cfg\" \"PIDFILE=/run/haproxy.pid\"\n\
         ExecStartPre=/usr/sbin/haproxy -Ws -f $CONFIG -c -q $EXTRAOPTS\n\
         ExecStart=/usr/sbin/haproxy -Ws -f $CONFIG -p ${PIDFILE} $EXTRAOPTS\n",
        0o644,
    );
    assert_eq!(root.arguments("haproxy"), "-c -q -f /etc/haproxy/haproxy.cfg");
    root.file(
        "/etc/default/haproxy",
        "# x\nEXTRAOPTS=\"-f /etc/haproxy/conf.d -S /run/m.sock\"\n",
        0o644,
    );
    assert_eq!(
        root.arguments("haproxy"),
        "-c -q -f /etc/haproxy/haproxy.cfg -f /etc/haproxy/conf.d"
    );
    root.file(
        "/etc/systemd/system/haproxy.service.d/own.conf",
        "[Service]\nExecStart=\nExecStart=/usr/sbin/haproxy -W -f /srv/a.cfg \\\n  -f /srv/b.cfg\n",
        0o644,
    );
    assert_eq!(root.arguments("haproxy"), "-c -q -f /srv/a.cfg -f /srv/b.cfg");
    root.file(
        "/etc/systemd/system/haproxy-edge.service",
        "[Service]\nExecStart=/usr/sbin/haproxy -f /etc/haproxy/edge.cfg\n",
        0o644,
    );
    assert_eq!(root.arguments("haproxy (haproxy-edge.service)"), "-c -q -f /etc/haproxy/edge.cfg");
}

#[test]
fn every_php_and_every_postgresql_cluster_has_a_test_of_its_own() {
    let root = Root::new();
    for program in
        ["/usr/sbin/php-fpm7.4", "/usr/sbin/php-fpm8.2", "/usr/lib/postgresql/15/bin/postgres"]
    {
        root.program(program);
    }
    root.file(
        "/etc/postgresql/15/main/postgresql.conf",
        "data_directory = '/srv/pg' # here\n",
        0o644,
    );
    root.file("/etc/postgresql/15/second/postgresql.conf", "#data_directory = 'x'\n", 0o644);
    root.file("/etc/postgresql/13/main/postgresql.conf", "", 0o644);
    let chosen = root.chosen();
    let names: Vec<&str> = chosen.keys().map(String::as_str).collect();
    assert_eq!(names, ["php-fpm7.4", "php-fpm8.2", "postgresql 15/main", "postgresql 15/second"]);
    assert!(
        root.arguments("postgresql 15/main")
            .contains("-D /srv/pg -c config_file=/etc/postgresql/15/main/postgresql.conf")
    );
    assert!(root.arguments("postgresql 15/second").contains("-D /var/lib/postgresql/15/second"));
    let What::Run { program, user, .. } = &chosen["php-fpm8.2"] else { panic!() };
    assert_eq!((program.as_path(), *user), (Path::new("/usr/sbin/php-fpm8.2"), None));
    let What::Run { user, .. } = &chosen["postgresql 15/main"] else { panic!() };
    assert_eq!(*user, Some((5, 6)), "postgres refuses to be root");
}

#[test]
fn a_cron_table_that_cron_would_refuse_is_told_with_its_line() {
    let root = Root::new();
    root.file("/etc/crontab", "17 * * * * root true\n", 0o644);
    root.file("/etc/cron.d/app", "# app\n* * * * nobody-here true\n", 0o644);
    root.file("/etc/cron.d/app.dpkg-old", "rubbish\n", 0o644);
    let said = run(root.0.path(), &root.chosen()["cron tables"], DEADLINE).unwrap_err();
    assert_eq!(said, "/etc/cron.d/app line 2: `nobody-here` is no day of the week");
    root.file("/etc/cron.d/app", "", 0o644);
    assert_eq!(run(root.0.path(), &What::CronTables, DEADLINE), Ok(()));
}

#[test]
fn a_test_that_hangs_is_ended_and_does_not_hold() {
    let what = What::Run {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), "read never; sleep 60".into()],
        user: None,
    };
    let said = run(Path::new("/"), &what, Duration::from_millis(200)).unwrap_err();
    assert!(said.starts_with("no answer in time"), "{said}");
}

#[test]
fn a_test_runs_as_the_user_of_its_service() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: becoming another user needs root");
        return;
    }
    let what = What::Run {
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), "id -u; id -G; exit 1".into()],
        user: Some((65534, 65533)),
    };
    let said = run(Path::new("/"), &what, DEADLINE).unwrap_err();
    assert_eq!(said, "exit code 1: 65534\n65533");
}

#[test]
fn postgresql_of_this_machine_takes_a_good_configuration_and_refuses_a_bad_one() {
    let Some(program) = (13..20)
        .map(|v| PathBuf::from(format!("/usr/lib/postgresql/{v}/bin/postgres")))
        .find(|p| p.is_file())
        .filter(|_| rustix::process::geteuid().is_root())
    else {
        eprintln!("skipped: no PostgreSQL here, or no root");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("postgresql.conf");
    let ask = |text: &str| {
        fs::write(&file, text).unwrap();
        let config = format!("config_file={}", file.display());
        let data = dir.path().to_string_lossy().into_owned();
        let arguments =
            ["-C", "data_directory", "-D", &data, "-c", &config].map(str::to_owned).to_vec();
        run(
            Path::new("/"),
            &What::Run { program: program.clone(), arguments, user: Some((65534, 65534)) },
            DEADLINE,
        )
    };
    assert_eq!(ask("port = 5432\n"), Ok(()));
    let said = ask("port = many\n").unwrap_err();
    assert!(said.contains("port"), "{said}");
}

#[test]
fn a_unit_that_systemd_does_not_accept_is_told_and_a_good_one_is_not() {
    if command::find(Path::new("/"), "systemd-analyze").is_none() {
        eprintln!("skipped: no systemd-analyze here");
        return;
    }
    // Any unit that this machine has and systemd accepts.
    let good = ["basic.target", "multi-user.target", "sysinit.target"].map(str::to_owned);
    let (mut passed, mut broken) = (Vec::new(), BTreeMap::new());
    units::verify(Path::new("/"), &good, &mut passed, &mut broken);
    assert!(passed.len() + broken.len() > 0, "none of the units is there");
    assert_eq!(units::named(passed.iter().chain(broken.keys())).len(), passed.len() + broken.len());
}
