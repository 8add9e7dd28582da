//! `acme-web`: a small real service, in good and bad versions.

use super::Deb;

/// Port the `acme-web` service listens on.
pub const ACME_PORT: u16 = 8080;

/// What a version of `acme-web` does to a host that installs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeWeb {
    /// It works.
    Good,
    /// Installs well, and its configuration test passes, but the service exits as soon as it runs.
    /// Nothing that does not start services can see it.
    ServiceDies,
    /// As `ServiceDies`, but systemd restarts it for ever: the unit never counts as failed.
    ServiceFlaps,
    /// The service runs and answers every request with status 500.
    AnswersWrong,
    /// The service answers well, each time after this many milliseconds.
    AnswersSlowly(u32),
    /// The script run after unpacking fails.
    PostinstFails,
    /// The script run after unpacking fails, but only where systemd runs: on the host itself, not in
    /// a rehearsal.
    PostinstFailsLive,
    /// The script run after unpacking does not end.
    PostinstHangs,
    /// As `PostinstHangs`, but only where systemd runs: on the host itself, not in a rehearsal.
    PostinstHangsLive,
    /// The script run after unpacking changes, removes and makes files that no package owns ([`SURPRISES`]), but only
    /// where systemd runs: no rehearsal can foresee it. Then it fails, or does not.
    SurprisesLive {
        /// It fails.
        fails: bool,
    },
    /// Brings a configuration of the network by which the host loses its address, and has it read where systemd runs.
    CutsNetwork,
    /// The script run after unpacking asks a person whether to go on, and waits for the answer.
    AsksPerson,
    /// The script run after unpacking is killed by a signal, but only where systemd runs.
    PostinstKilledLive,
    /// The script run after unpacking leaves a process behind in the background, with its standard output and whatever
    /// else it was given still open; but only where systemd runs.
    PostinstDaemonises,
    /// Installs this many MiB below `/boot`, as a kernel does.
    Boots(u32),
    /// The script run after unpacking writes this line at the end of a file of somebody else's.
    Spoils {
        /// Which file; it need not be there.
        file: &'static str,
        /// The line; `\n` is as `printf` has it.
        line: &'static str,
    },
    /// The package asks for a reboot, as a kernel does.
    WantsReboot,
    /// The script run after unpacking takes this many seconds.
    PostinstSlow(u32),
    /// The script run before an upgrade or removal fails (that of the *old* version runs first, so
    /// this shows with the upgrade away from it).
    PrermFails,
    /// Ships another default configuration: a host whose administrator changed
    /// `/etc/acme-web/acme-web.conf` is asked what to do.
    AsksAboutConffile,
    /// Its own configuration test (`acme-web --check`) fails with the configuration it ships.
    CheckFails,
    /// Installs this many MiB that cannot be compressed.
    Huge(u32),
    /// Conflicts with this package, so that installing it removes that one.
    Removes(&'static str),
    /// Needs a package no archive has.
    NeedsMissing,
}

/// What [`AcmeWeb::SurprisesLive`] changes and what it removes; it also makes a directory beside the first.
pub const SURPRISES: [&str; 2] = ["/opt/vendor/settings", "/usr/local/share/vendor"];

/// Version `version` of `acme-web`, behaving as `behaviour` says. It serves HTTP on
/// [`ACME_PORT`] with perl, which every Debian has: `/` says the version, anything else is 404.
pub fn acme_web(version: &str, behaviour: AcmeWeb) -> Deb {
    let restart = if behaviour == AcmeWeb::ServiceFlaps {
        "Restart=always\nRestartSec=1"
    } else {
        "Restart=no"
    };
    let limit = if behaviour == AcmeWeb::ServiceFlaps { "StartLimitIntervalSec=0\n" } else { "" };
    let unit = format!(
        "[Unit]\nDescription=Acme web service\nAfter=network.target\n{limit}\n[Service]\nType=exec\n\
         ExecStart=/usr/sbin/acme-web\n{restart}\n\n[Install]\nWantedBy=multi-user.target\n"
    );
    let greeting = match behaviour {
        AcmeWeb::AsksAboutConffile => "greeting=Hello anew\nworkers=4\n",
        AcmeWeb::CheckFails => "greeting=Hello\nworkers=many\n",
        _ => "greeting=Hello\n",
    };
    let conf = format!("# acme-web\nport={ACME_PORT}\n{greeting}");
    let deb = Deb::new("acme-web", version)
        .field("Depends", "perl-base, init-system-helpers (>= 1.54~)")
        .file("/usr/sbin/acme-web", 0o755, program(version, behaviour))
        .file("/usr/share/doc/acme-web/README", 0o644, format!("acme-web {version}\n"))
        .conffile("/etc/acme-web/acme-web.conf", conf)
        .service("acme-web.service", &unit);
    match behaviour {
        AcmeWeb::PostinstFails => deb.postinst(
            "if [ \"$1\" = configure ]; then echo 'acme-web: cannot migrate the session store' >&2; exit 1; fi",
        ),
        AcmeWeb::PostinstFailsLive => deb.postinst(
            "if [ \"$1\" = configure ] && [ -S /run/systemd/private ]; then echo 'acme-web: cannot stop the old workers' >&2; exit 1; fi",
        ),
        AcmeWeb::PostinstHangs => deb.postinst(
            "if [ \"$1\" = configure ]; then echo 'acme-web: waiting for the session store'; while :; do sleep 3600; done; fi",
        ),
        AcmeWeb::PostinstHangsLive => deb.postinst(
            "if [ \"$1\" = configure ] && [ -S /run/systemd/private ]; then echo 'acme-web: waiting for the session store'; while :; do sleep 3600; done; fi",
        ),
        AcmeWeb::SurprisesLive { fails } => deb.postinst(&format!(
            "if [ \"$1\" = configure ] && [ -S /run/systemd/private ]; then echo migrated >> {0}; rm -r {1}; mkdir -p {0}.d/empty; echo new > {0}.d/new; {2}; fi",
            SURPRISES[0],
            SURPRISES[1],
            if fails { "exit 1" } else { "true" },
        )),
        AcmeWeb::CutsNetwork => deb
            .file(
                "/etc/systemd/network/05-acme.network",
                0o644,
                "[Match]\nName=host0\n\n[Network]\nDHCP=no\nLinkLocalAddressing=no\n",
            )
            .postinst(
                "if [ \"$1\" = configure ] && [ -S /run/systemd/private ]; then networkctl reload; networkctl reconfigure host0; fi",
            ),
        AcmeWeb::AsksPerson => deb.postinst(
            "if [ \"$1\" = configure ]; then echo 'acme-web: migrate the session store? [y/n]'; read answer || read answer < /dev/tty || echo 'nobody answered'; fi",
        ),
        AcmeWeb::PostinstKilledLive => deb.postinst(
            "if [ \"$1\" = configure ] && [ -S /run/systemd/private ]; then kill -KILL $$; fi",
        ),
        AcmeWeb::PostinstDaemonises => deb.postinst(
            "if [ \"$1\" = configure ] && [ -S /run/systemd/private ]; then sleep 1717 & fi",
        ),
        AcmeWeb::Boots(mib) => {
            deb.file("/boot/acme-web.img", 0o644, vec![7; mib as usize * 1024 * 1024])
        }
        AcmeWeb::Spoils { file, line } => deb.postinst(&format!(
            "if [ \"$1\" = configure ]; then printf '{line}\\n' >> {file}; fi"
        )),
        AcmeWeb::WantsReboot => deb.postinst(
            "if [ \"$1\" = configure ]; then touch /run/reboot-required; echo acme-web >> /run/reboot-required.pkgs; fi",
        ),
        AcmeWeb::PostinstSlow(seconds) => {
            deb.postinst(&format!("if [ \"$1\" = configure ]; then sleep {seconds}; fi"))
        }
        AcmeWeb::PrermFails => {
            deb.prerm("echo 'acme-web: cannot save the session store' >&2; exit 1")
        }
        AcmeWeb::Huge(mib) => deb.ballast(mib),
        AcmeWeb::Removes(package) => deb.field("Conflicts", package),
        AcmeWeb::NeedsMissing => deb.field("Pre-Depends", "acme-runtime (>= 9)"),
        _ => deb,
    }
}

fn program(version: &str, behaviour: AcmeWeb) -> String {
    let start = match behaviour {
        AcmeWeb::ServiceDies | AcmeWeb::ServiceFlaps => {
            r#"die "acme-web: session store has layout 1, want 2\n";"#
        }
        _ => "",
    };
    let delay = match behaviour {
        AcmeWeb::AnswersSlowly(milliseconds) => {
            format!("select(undef, undef, undef, {milliseconds} / 1000);")
        }
        _ => String::new(),
    };
    let status = match behaviour {
        AcmeWeb::AnswersWrong => "500 Internal Server Error",
        _ => "200 OK",
    };
    PROGRAM
        .replace("@VERSION@", version)
        .replace("@START@", start)
        .replace("@DELAY@", &delay)
        .replace("@STATUS@", status)
}

const PROGRAM: &str = r#"#!/usr/bin/perl
# acme-web @VERSION@: answers HTTP requests, one child process each.
use strict;
use warnings;
use IO::Socket::INET;

my %conf = (port => 8080, greeting => 'Hello', workers => 1);
open(my $file, '<', '/etc/acme-web/acme-web.conf') or die "acme-web: cannot read its configuration: $!\n";
while (<$file>) {
    next if /^\s*(#|$)/;
    /^(\w+)=(.*)$/ or die "acme-web: /etc/acme-web/acme-web.conf:$.: expected name=value\n";
    $conf{$1} = $2;
}
close $file;
$conf{$_} =~ /^\d+$/ or die "acme-web: $_=$conf{$_}: not a number\n" for qw(port workers);
if (@ARGV and $ARGV[0] eq '--check') {
    print "acme-web: configuration is good\n";
    exit 0;
}
if (@ARGV and $ARGV[0] eq '--version') {
    print "@VERSION@\n";
    exit 0;
}
@START@
my $listener = IO::Socket::INET->new(LocalPort => $conf{port}, Listen => 64, ReuseAddr => 1)
    or die "acme-web: cannot listen on port $conf{port}: $!\n";
$SIG{CHLD} = 'IGNORE';
$SIG{TERM} = sub { exit 0 };
while (1) {
    my $client = $listener->accept or next;
    my $child = fork;
    if (defined $child and $child == 0) {
        alarm 10;
        my $request = <$client> // '';
        while (defined(my $line = <$client>)) { last if $line =~ /^\r?$/ }
        @DELAY@
        my ($status, $body) = ('@STATUS@', "$conf{greeting} from acme-web @VERSION@\n");
        ($status, $body) = ('404 Not Found', "no such page\n") unless $request =~ m{^GET / };
        print $client "HTTP/1.1 $status\r\nContent-Type: text/plain\r\nContent-Length: ", length $body,
            "\r\nConnection: close\r\n\r\n$body";
        close $client;
        exit 0;
    }
    close $client;
}
"#;
