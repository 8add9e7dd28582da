//! Do the interpreters still load what they loaded before?
//!
//! Only interpreters in `/usr/bin` and modules that packages own are looked at, by user `nobody`, with a
//! scrubbed environment and without any path that an administrator or user writes to (`/usr/local`, home
//! directories, the current directory): nothing that a user chose is ever run.

use super::executables;
use crate::command::{self, command};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All modules of one interpreter take no longer.
const DEADLINE: Duration = Duration::from_secs(60);
/// Modules of changed packages that are tried, at most, for each interpreter.
const MOST: usize = 60;
/// `nobody` and `nogroup`.
const NOBODY: u32 = 65534;

/// Each module is loaded in a child of its own: one that ends or hangs takes no other with it.
const PYTHON: &str = "
import os, signal, sys
sys.path = [p for p in sys.path if p.startswith('/usr/lib/')] + ['/usr/lib/python3/dist-packages']
for name in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        null = os.open('/dev/null', os.O_WRONLY)
        os.dup2(null, 1)
        signal.alarm(10)
        try:
            __import__(name)
        except BaseException as e:
            os.write(2, ('bad %s %s\\n' % (name, str(e).replace('\\n', ' '))).encode())
            os._exit(1)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        os.write(1, ('ok %s\\n' % name).encode())
";
const PERL: &str = r#"
BEGIN { @INC = grep { m{^/(usr/(lib|share)|etc/perl)} } @INC } use POSIX ();
$| = 1;
for my $name (@ARGV) {
    my $child = fork;
    if (!$child) {
        open STDOUT, ">", "/dev/null"; alarm 10;
        (my $file = "$name.pm") =~ s{::}{/}g;
        my $good = eval { require $file; 1 };
        if (!$good) { my $said = $@; $said =~ s/\n/ /g; print STDERR "bad $name $said\n"; }
        POSIX::_exit($good ? 0 : 1);
    }
    waitpid $child, 0;
    print "ok $name\n" if $? == 0;
}
"#;
const RUBY: &str = r#"
$stdout.sync = true
$LOAD_PATH.reject! { |p| !p.start_with?("/usr/lib", "/usr/share") }
ARGV.each do |name|
  child = fork do
    $stdout.reopen("/dev/null")
    begin
      require name
    rescue Exception => e
      $stderr.puts "bad #{name} #{e.message.tr("\n", " ")}"
      exit! 1
    end
    exit! 0
  end
  puts "ok #{name}" if Process.wait2(child)[1].success?
end
"#;
const NODE: &str = "
for (const name of process.argv.slice(1)) {
  try { require('module').builtinModules.includes(name) && require(name); console.log('ok ' + name) }
  catch (e) { console.error('bad ' + name + ' ' + e.message.split('\\n')[0]) }
}";

const PYTHON_MODULES: &[&str] = &[
    "asyncio",
    "bz2",
    "ctypes",
    "curses",
    "datetime",
    "dbm",
    "decimal",
    "email",
    "hashlib",
    "http.client",
    "json",
    "lzma",
    "multiprocessing",
    "os",
    "pwd",
    "pyexpat",
    "re",
    "readline",
    "select",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "threading",
    "urllib.request",
    "uuid",
    "xml.etree.ElementTree",
    "zlib",
    "apt",
    "apt_pkg",
    "dbus",
    "gi",
    "yaml",
    "cryptography",
    "OpenSSL",
    "psycopg2",
    "requests",
    "systemd.journal",
];
const PERL_MODULES: &[&str] = &[
    "POSIX",
    "Socket",
    "File::Temp",
    "Data::Dumper",
    "Digest::SHA",
    "Encode",
    "Fcntl",
    "File::Copy",
    "IO::Socket",
    "List::Util",
    "MIME::Base64",
    "Storable",
    "Sys::Hostname",
    "Time::HiRes",
    "DB_File",
    "DBI",
    "DBD::mysql",
    "DBD::Pg",
    "DBD::SQLite",
    "IO::Socket::SSL",
    "Locale::gettext",
    "Net::SSLeay",
    "XML::Parser",
];
const RUBY_MODULES: &[&str] =
    &["digest", "etc", "fiddle", "json", "openssl", "psych", "readline", "socket", "zlib"];
const NODE_MODULES: &[&str] = &[
    "crypto",
    "dns",
    "fs",
    "http",
    "http2",
    "https",
    "net",
    "os",
    "tls",
    "worker_threads",
    "zlib",
];

/// What one interpreter was asked for, and what it gave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loads {
    /// Modules that were tried.
    pub tried: BTreeSet<String>,
    /// Those that load.
    pub loaded: BTreeSet<String>,
    /// What it said of the others.
    pub said: BTreeMap<String, String>,
}

/// Modules that packages ship, by language.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Shipped {
    python: BTreeSet<String>,
    perl: BTreeSet<String>,
}

/// Asks every interpreter of the host for its usual modules and those that `packages` ship now.
pub fn ask_all(packages: &[String]) -> BTreeMap<String, Loads> {
    let shipped = Shipped::of(Path::new("/var/lib/dpkg/info"), packages);
    let mut out = BTreeMap::new();
    for (name, program) in interpreters(Path::new("/usr/bin")) {
        let loads = ask(&name, &program, &shipped);
        out.insert(name, loads);
    }
    out
}

/// Interpreters of packages: real files, so that a version of Python that `update-alternatives` hides counts too.
fn interpreters(directory: &Path) -> Vec<(String, PathBuf)> {
    let version = |rest: &str| {
        rest.split_once('.').is_some_and(|(a, b)| {
            [a, b].iter().all(|p| !p.is_empty() && p.bytes().all(|c| c.is_ascii_digit()))
        })
    };
    let is = |name: &str| {
        let (kind, rest) = kind_of(name);
        match kind {
            "python3" => {
                rest.strip_prefix('.').is_some_and(|r| r.bytes().all(|b| b.is_ascii_digit()))
                    && rest.len() > 1
            }
            "php" | "ruby" => version(rest),
            "perl" | "node" | "java" => rest.is_empty(),
            _ => false,
        }
    };
    executables(directory).filter(|(name, _)| is(name)).collect()
}

fn kind_of(name: &str) -> (&'static str, &str) {
    ["python3", "perl", "php", "ruby", "node", "java"]
        .into_iter()
        .find_map(|kind| Some((kind, name.strip_prefix(kind)?)))
        .unwrap_or(("", name))
}

fn ask(name: &str, program: &Path, shipped: &Shipped) -> Loads {
    use std::os::unix::process::CommandExt as _;
    let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<BTreeSet<String>>();
    let kind = kind_of(name).0;
    let (before, mut tried): (&[&str], _) = match kind {
        "python3" => (&["-I", "-S", "-B", "-c", PYTHON], words(PYTHON_MODULES)),
        "perl" => (&["-e", PERL, "--"], words(PERL_MODULES)),
        "ruby" => (&["--disable=gems,rubyopt", "-e", RUBY, "--"], words(RUBY_MODULES)),
        "node" => (&["-e", NODE, "--"], words(NODE_MODULES)),
        // Lists the extensions that load by its own configuration; runs no script.
        "php" => (&["-d", "auto_prepend_file=", "-d", "auto_append_file=", "-m"], words(&[])),
        _ => (&["-version"], words(&[])),
    };
    match kind {
        "python3" => tried.extend(shipped.python.iter().take(MOST).cloned()),
        "perl" => tried.extend(shipped.perl.iter().take(MOST).cloned()),
        _ => {}
    }
    let mut command = command(&program.to_string_lossy());
    command.args(before).args(&tried).current_dir("/").env("HOME", "/nonexistent");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let (text, ending) = match command::run(&mut command, Some(DEADLINE)) {
        Ok(output) => {
            let good = output.success();
            (
                output.text.clone(),
                (!good).then(|| format!("{}: {}", output.ending(), output.tail(2))),
            )
        }
        Err(e) => (String::new(), Some(format!("cannot be run: {e}"))),
    };
    let mut loads = Loads { tried, ..Loads::default() };
    let list = kind == "php";
    for line in text.lines().map(str::trim) {
        if let Some(module) = line.strip_prefix("ok ") {
            loads.loaded.insert(module.to_owned());
        } else if let Some((module, said)) =
            line.strip_prefix("bad ").and_then(|rest| rest.split_once(' '))
        {
            loads.said.insert(module.to_owned(), said.chars().take(200).collect());
        } else if list && is_extension(line) {
            loads.loaded.insert(line.to_owned());
        }
    }
    // The interpreter itself: what it says of itself when it cannot even start.
    loads.tried.insert(name.to_owned());
    match ending {
        None => {
            loads.loaded.insert(name.to_owned());
        }
        Some(said) => {
            loads.said.insert(name.to_owned(), said);
        }
    }
    loads
}

/// A line of `php -m` that is no heading, blank line or complaint.
fn is_extension(line: &str) -> bool {
    !line.is_empty() && line.bytes().all(|b| b.is_ascii_alphanumeric() || b" _-.".contains(&b))
}

impl Shipped {
    fn of(info: &Path, packages: &[String]) -> Self {
        let mut out = Self::default();
        for name in packages {
            let own = name.split(':').next().unwrap_or(name);
            for list in [format!("{name}.list"), format!("{own}.list")] {
                let text = fs::read_to_string(info.join(list)).unwrap_or_default();
                text.lines().for_each(|path| out.note(path));
            }
        }
        out
    }

    fn note(&mut self, path: &str) {
        if let Some(rest) = path.strip_prefix("/usr/lib/python3/dist-packages/").or_else(|| {
            path.strip_prefix("/usr/lib/python3.")
                .and_then(|r| Some(r.split_once("/lib-dynload/")?.1))
        }) {
            let module = match rest.split_once('/') {
                Some((package, "__init__.py")) => Some(package),
                Some(_) => None,
                None => rest
                    .strip_suffix(".py")
                    .or_else(|| rest.strip_suffix(".so").and_then(|r| r.split('.').next())),
            };
            let plain = |m: &&str| {
                !m.is_empty() && m.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            };
            self.python.extend(module.filter(plain).map(str::to_owned));
        }
        let Some(module) = path.strip_suffix(".pm") else { return };
        let parts: Vec<&str> = module.split('/').collect();
        let below = match parts.as_slice() {
            ["", "usr", "share", "perl5", rest @ ..]
            | ["", "usr", "share", "perl", _, rest @ ..]
            | ["", "usr", "lib", _, "perl" | "perl5", _, rest @ ..]
            | ["", "usr", "lib", _, "perl-base", rest @ ..] => rest,
            _ => return,
        };
        let plain =
            |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        // Debconf's modules start the configuration of a package when they are loaded.
        if !below.is_empty() && below.iter().all(plain) && below[0] != "Debconf" {
            self.perl.insert(below.join("::"));
        }
    }
}

/// What loaded before and does not load after: (lines for people of the interpreters that are as they were,
/// name → what is lost). What is no longer shipped was not tried, and is not lost.
pub fn compare(
    before: &BTreeMap<String, Loads>,
    after: &BTreeMap<String, Loads>,
) -> (Vec<String>, BTreeMap<String, String>) {
    let (mut passed, mut broken) = (Vec::new(), BTreeMap::new());
    for (name, was) in before {
        let Some(is) = after.get(name) else { continue };
        // php lists what it has; the others are asked for names.
        let asked = |module: &&String| is.tried.contains(*module) || kind_of(name).0 == "php";
        let lost: Vec<&String> =
            was.loaded.iter().filter(asked).filter(|m| !is.loaded.contains(*m)).collect();
        if lost.is_empty() {
            let modules = is.loaded.len().saturating_sub(1);
            passed.push(match modules {
                0 => format!("{name} starts"),
                n => format!("{name} loads {n} modules"),
            });
            continue;
        }
        let list: Vec<String> = lost
            .iter()
            .take(5)
            .map(|m| match is.said.get(*m) {
                Some(said) => format!("{m} ({said})"),
                None => (*m).clone(),
            })
            .collect();
        broken.insert(
            format!("{name} modules"),
            format!("{} no longer load: {}", lost.len(), list.join("; ")),
        );
    }
    (passed, broken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn loads(tried: &[&str], loaded: &[&str]) -> Loads {
        let set = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect();
        Loads { tried: set(tried), loaded: set(loaded), said: BTreeMap::new() }
    }

    #[test]
    fn only_what_loaded_before_and_is_still_asked_for_can_be_lost() {
        let of = |name: &str, l: Loads| BTreeMap::from([(name.to_owned(), l)]);
        let before =
            of("python3.11", loads(&["ssl", "yaml", "old", "never"], &["ssl", "yaml", "old"]));
        let mut now = loads(&["ssl", "yaml", "never"], &["yaml"]);
        now.said.insert("ssl".into(), "libssl.so.3: version `OPENSSL_3.0.9' not found".into());
        let (passed, broken) = compare(&before, &of("python3.11", now));
        assert!(passed.is_empty());
        assert_eq!(
            broken["python3.11 modules"],
            "1 no longer load: ssl (libssl.so.3: version `OPENSSL_3.0.9' not found)"
        );
        let (passed, broken) = compare(&before, &before);
        assert_eq!((passed.len(), broken.len()), (1, 0));
        let php = compare(
            &of("php8.2", loads(&[], &["curl", "xml"])),
            &of("php8.2", loads(&[], &["xml"])),
        );
        assert_eq!(php.1["php8.2 modules"], "1 no longer load: curl");
    }

    #[test]
    fn modules_of_a_package_are_told_from_its_list_of_files() {
        let mut shipped = Shipped::default();
        for path in [
            "/usr/lib/python3/dist-packages/yaml/__init__.py",
            "/usr/lib/python3/dist-packages/yaml/nodes.py",
            "/usr/lib/python3/dist-packages/six.py",
            "/usr/lib/python3/dist-packages/_cffi_backend.cpython-311-x86_64-linux-gnu.so",
            "/usr/lib/python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so",
            "/usr/lib/python3.11/antigravity.py",
            "/usr/local/lib/python3.11/dist-packages/planted.py",
            "/usr/share/perl5/Debconf/Client/ConfModule.pm",
            "/usr/lib/x86_64-linux-gnu/perl5/5.36/Net/SSLeay.pm",
            "/usr/share/perl/5.36.0/Time/Local.pm",
            "/usr/share/doc/x/examples/Foo.pm",
        ] {
            shipped.note(path);
        }
        let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
        assert_eq!(list(shipped.python), ["_cffi_backend", "_ssl", "six", "yaml"]);
        assert_eq!(list(shipped.perl), ["Net::SSLeay", "Time::Local"]);
    }

    #[test]
    fn the_interpreters_of_this_machine_load_their_modules_and_a_missing_one_is_told() {
        let mut shipped = Shipped::default();
        shipped.python.insert("no_such_module".into());
        shipped.perl.insert("No::Such::Module".into());
        for (name, program) in interpreters(Path::new("/usr/bin")) {
            let found = ask(&name, &program, &shipped);
            assert!(found.loaded.contains(&name), "{name}: {found:?}");
            let (usual, missing) = match kind_of(&name).0 {
                "python3" => ("json", "no_such_module"),
                "perl" => ("POSIX", "No::Such::Module"),
                "node" => ("crypto", ""),
                _ => continue,
            };
            assert!(found.loaded.contains(usual), "{name}: {found:?}");
            assert!(missing.is_empty() || found.said.contains_key(missing), "{name}: {found:?}");
            assert!(!found.loaded.contains(missing));
        }
    }

    #[test]
    fn only_interpreters_that_packages_own_are_asked_each_version_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "python3.11",
            "python3.11-config",
            "python3",
            "perl",
            "perl5.36-x86_64-linux-gnu",
            "php8.2",
            "php",
            "java",
            "javac",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let names: Vec<String> = interpreters(dir.path()).into_iter().map(|(n, _)| n).collect();
        assert_eq!(names, ["java", "perl", "php8.2", "python3.11"]);
    }

    #[test]
    fn nothing_that_a_user_planted_is_run() {
        // What the environment names would be run by an interpreter that looked at it.
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let marker = dir.path().join("ran");
        let planted =
            format!("import os; os.close(os.open({:?}, os.O_CREAT))", marker.to_str().unwrap());
        fs::write(dir.path().join("json.py"), &planted).unwrap();
        fs::write(dir.path().join("sitecustomize.py"), &planted).unwrap();
        // The test's own environment is what a careless agent would hand on.
        let python = Path::new("/usr/bin/python3.11");
        if python.exists() {
            let careless = std::process::Command::new(python)
                .args(["-c", "import json"])
                .env("PYTHONPATH", dir.path())
                .status()
                .unwrap();
            assert!(careless.success() && marker.exists(), "the trap does not work");
            fs::remove_file(&marker).unwrap();
            let mut careful = command(&python.to_string_lossy());
            careful.current_dir(dir.path()).args(["-I", "-S", "-B", "-c", PYTHON, "json"]);
            assert!(command::run(&mut careful, None).unwrap().text.contains("ok json"));
            assert!(!marker.exists());
        }
    }
}
