//! What can be typed at `fettle-agent`, described for manual page, completions and the checks of the documents. The
//! agent's own parser is written by hand; `tests/manual.rs` holds the two together.

use clap::{Arg, ArgAction, Command};

/// The whole command line.
pub(crate) fn command() -> Command {
    Command::new("fettle-agent")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The host side of Fettle: inventory, rehearsal, transaction and undo")
        .long_about(
            "fettle-agent keeps one host patched. It rehearses each change on a copy-on-write clone of the host, keeps \
             what the change will touch, makes it, and takes it back byte for byte where it hurts. It works alone, and \
             as part of a fleet that a Fettle server leads.",
        )
        .after_help(
            "Configuration is in /etc/fettle: tests.d (asked in the rehearsal), probes.d (asked before and after a \
             change), balancers.d, data.d, hooks.d, peer (ADDRESS:PORT, what --deadman must reach), rehearse-online (an empty file: as --network, for every rehearsal). What root runs of it nobody else may be able to write. State is in /var/lib/fettle-agent. The service is \
             fettle-agent.service; see journalctl(1). Exit codes: 0 done, 2 wrong usage, others as the message says.",
        )
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .disable_version_flag(true)
        .arg(Arg::new("version").long("version").action(ArgAction::Version).help("Print the version"))
        .arg(
            place("output", "FORMAT", "For people, or JSON for programs; scan writes SARIF and CycloneDX too")
                .short('o')
                .value_parser(["text", "json", "sarif", "cyclonedx"])
                .global(true),
        )
        .subcommands(with_a_server())
        .subcommands(alone())
        .subcommands(looking())
}

fn with_a_server() -> [Command; 5] {
    [
        Command::new("enroll").about("Join a fleet").args([
            option("server", "URL", "Where agents reach the server: https://NAME:8441").required(true),
            option("token", "TOKEN", "What `fettle token create` printed").required(true),
            option("name", "NAME", "Another name than the host's own"),
            flag("force", "Also where the host is enrolled already: as another host"),
        ]),
        Command::new("run").about("Check in and obey, until stopped; the systemd unit runs this"),
        Command::new("testbed")
            .about("Be a worker: build twins of other hosts and test changes on them, where ordered to")
            .arg(place("what", "on|off|status", "Begin, stop, or say").value_parser(["on", "off", "status"])),
        Command::new("keys")
            .about("Whose signatures under plans this host asks for")
            .subcommand_required(true)
            .subcommands([
                Command::new("show").about("The keys, how many of them must sign, and where they are from"),
                Command::new("pin")
                    .about("Ask for the keys of a set from now on, whatever the server says")
                    .arg(place("file", "FILE", "The signed set").required(true)),
                Command::new("forget").about("Ask for none until the server names a set"),
            ]),
        Command::new("check-order")
            .about("Say whether a signed assignment would be obeyed, and why not")
            .args([
                place("file", "FILE", "The assignment").required(true),
                option("proof", "FILE", "What came with it to show that operators signed its plan"),
            ]),
    ]
}

fn alone() -> [Command; 8] {
    [
        Command::new("scan").about("Where this host is exposed").args([
            feeds(),
            option("status", "FILE", "Judge the packages of a dpkg status file alone"),
            option("sbom", "FILE", "Judge what a CycloneDX or SPDX document lists"),
            option("release", "NAME", "The release that file is of"),
        ]),
        Command::new("feeds")
            .about("Vulnerability data of this host")
            .subcommand_required(true)
            .subcommand(
            Command::new("compile")
                .about(
                    "Make the file that scan reads of a directory of feeds; scan does so by itself",
                )
                .arg(place("directory", "DIR", "The directory")),
        ),
        Command::new("plan")
            .about("What patch would change, and why not the rest; touches nothing")
            .args([packages(), only(), feeds()])
            .args(rules()),
        Command::new("rehearse")
            .about("Run the change on a copy-on-write clone of this host; touches nothing")
            .args([packages(), only(), feeds()])
            .args(rules()),
        Command::new("patch")
            .about("The whole transaction, with its way back")
            .args([packages(), only(), feeds(), flag("dry-run", "Only say what would change")])
            .args(rules()),
        Command::new("confirm").about("Let a change stand that waits for it (--confirm-within)"),
        Command::new("undo").about("Take a transaction back").arg(place(
            "transaction",
            "TRANSACTION",
            "Which; without a name, the last one",
        )),
        Command::new("resume").about("Take up what a crash interrupted"),
    ]
}

/// How a change is to be made.
fn rules() -> [Arg; 8] {
    [
        option(
            "hung-after",
            "SECONDS",
            "A package manager that takes longer is ended, and the change undone",
        ),
        flag("repair", "Packages that somebody left half-configured first"),
        option(
            "latency-margin",
            "PERCENT",
            "The probes in probes.d may be at most so much slower afterwards",
        ),
        option(
            "confirm-within",
            "SECONDS",
            "Undone unless `confirm` is typed so soon after the checks",
        ),
        option(
            "deadman",
            "SECONDS",
            "Undone if neither the server nor a peer of /etc/fettle/peer can be reached for so long after the checks",
        ),
        flag(
            "reboot",
            "Where the change needs it; it goes on by itself afterwards. A new kernel is tried first: if the host does \
             not come up, it boots the old one",
        ),
        option(
            "accept-missing",
            "SYMBOL@FILE",
            "A symbol that FILE may lack afterwards; may be given several times",
        )
        .action(ArgAction::Append),
        flag(
            "network",
            "The rehearsal has the host's network: for packages whose scripts load things from there. What they do to \
             others than the host, nothing takes back. Without it, and without /etc/fettle/rehearse-online, it has none",
        ),
    ]
}

fn looking() -> [Command; 7] {
    [
        Command::new("inventory").about("What this host would report").args([
            flag("compact", "On one line"),
            option("only", "PART", "Only this part").value_parser(["packages", "processes"]),
        ]),
        Command::new("status").about("What is under way, what was last, what needs a person"),
        Command::new("history").about("Transactions, newest first"),
        Command::new("show")
            .about("One transaction: every step, what it changed, what came of it")
            .arg(place("transaction", "TRANSACTION", "Which").required(true)),
        Command::new("doctor").about("What is wrong with this host, and what to do"),
        Command::new("version").about("Which version this is"),
        Command::new("help").about("What can be typed"),
    ]
}

fn packages() -> Arg {
    place("packages", "PACKAGE", "Only these, with what they need; default: whatever is pending")
        .num_args(0..)
}
fn only() -> Arg {
    option("only", "CLASS", "security: only what fixes a finding").value_parser(["security"])
}
fn feeds() -> Arg {
    option("feeds", "DIR", "Vulnerability data; default: /var/lib/fettle-agent/feeds")
}
fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}
fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}
fn place(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(value).help(help)
}
