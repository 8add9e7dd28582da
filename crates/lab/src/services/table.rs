//! Which software, how it is set up with data in it, and how a client talks to it.

/// Hosts that run several of them side by side.
pub(super) struct Stage {
    pub(super) name: &'static str,
    /// Installed in the versions of the release, without its security updates.
    pub(super) packages: &'static [&'static str],
    /// Shell: configuration and data.
    pub(super) prepare: &'static str,
    /// What the software writes by itself while it runs; not compared after an undo.
    pub(super) live: &'static [&'static str],
    pub(super) services: &'static [Service],
}

/// One piece of software.
pub(super) struct Service {
    pub(super) name: &'static str,
    /// What is typed after `fettle-agent patch`.
    pub(super) patch: &'static str,
    /// Source package whose binaries are put at the version before the pending one; empty where the release's own
    /// version is that.
    pub(super) older: &'static str,
    /// Shell: succeeds when it answers as it should. Asked again and again while it is patched.
    pub(super) ask: &'static str,
    /// Shell: prints something of its data that must be the same before and after.
    pub(super) data: &'static str,
    /// A fault of the vendor's update for which its rehearsal refuses it, in its words; empty: none is known. When a
    /// newer update mends that, it goes through.
    pub(super) refused: &'static str,
}

const fn service(name: &'static str, patch: &'static str, ask: &'static str) -> Service {
    Service { name, patch, older: "", ask, data: "true", refused: "" }
}

impl Service {
    const fn data(self, data: &'static str) -> Self {
        Self { data, ..self }
    }
    const fn refused(self, refused: &'static str) -> Self {
        Self { refused, ..self }
    }
    const fn older(self, older: &'static str) -> Self {
        Self { older, ..self }
    }
}

pub(super) const STAGES: [Stage; 5] = [WEB, DATA, RUNTIMES, LIBRARIES, SYSTEM];

const WEB: Stage = Stage {
    name: "web",
    packages: &[
        "nginx",
        "apache2",
        "haproxy",
        "php8.2-fpm",
        "libfcgi-bin",
        "squid",
        "memcached",
        "redis-server",
        "curl",
    ],
    prepare: r#"
sed -i 's/\b80\b/8081/' /etc/apache2/ports.conf /etc/apache2/sites-available/000-default.conf
printf '\nfrontend f\n  mode http\n  bind :8082\n  default_backend b\nbackend b\n  mode http\n  server s 127.0.0.1:80\n' >> /etc/haproxy/haproxy.cfg
mkdir -p /srv/php && echo '<?php echo "php says ok";' > /srv/php/t.php
echo 'a page' > /var/www/html/data.html
systemctl restart apache2 haproxy php8.2-fpm
redis-cli set key value >/dev/null && redis-cli save >/dev/null"#,
    live: &["/var/spool/squid", "/var/lib/redis", "/var/lib/php"],
    services: &[
        service("nginx", "nginx", "curl -fsS -m 2 http://127.0.0.1/data.html | grep -q page")
            .data("cat /var/www/html/data.html"),
        service(
            "apache2",
            "apache2",
            "curl -fsS -m 2 http://127.0.0.1:8081/data.html | grep -q page",
        ),
        service(
            "haproxy",
            "haproxy",
            "curl -fsS -m 2 http://127.0.0.1:8082/data.html | grep -q page",
        ),
        service(
            "php-fpm",
            "php8.2-fpm",
            "SCRIPT_FILENAME=/srv/php/t.php REQUEST_METHOD=GET cgi-fcgi -bind -connect /run/php/php8.2-fpm.sock 2>/dev/null | grep -q 'php says ok'",
        ),
        service("squid", "squid", "curl -sI -m 2 http://127.0.0.1:3128/ | grep -qi squid"),
        service(
            "memcached",
            "memcached",
            "exec 3<>/dev/tcp/127.0.0.1/11211 && printf 'version\\r\\nquit\\r\\n' >&3 && grep -q VERSION <&3",
        ),
        service("redis", "redis-server", "redis-cli ping 2>/dev/null | grep -q PONG")
            .data("redis-cli get key"),
    ],
};

const DATA: Stage = Stage {
    name: "data",
    packages: &["mariadb-server", "postgresql-15", "bind9", "dovecot-imapd", "rsync", "rsyslog"],
    prepare: r#"
mariadb -e 'create database t; create table t.t (n int primary key, s text); insert into t.t select seq, md5(seq) from t.seq_1_to_5000' ||
mariadb -e 'insert into t.t select seq, md5(seq) from seq_1_to_5000' t
su postgres -c "psql -qc 'create table t as select n, md5(n::text) s from generate_series(1,5000) n'"
mkdir -p /srv/files && head -c 100000 /dev/urandom > /srv/files/f
printf '[files]\npath = /srv/files\n' > /etc/rsyncd.conf && systemctl restart rsync"#,
    live: &[
        "/var/lib/mysql",
        "/var/lib/postgresql",
        "/var/cache/bind",
        "/var/lib/dovecot",
        "/var/lib/logrotate",
    ],
    services: &[
        service(
            "mariadb",
            "mariadb-server",
            "mariadb -Ne 'select count(*) from t.t' 2>/dev/null | grep -q 5000",
        )
        .data("mariadb -Ne 'checksum table t.t'"),
        service(
            "postgresql",
            "postgresql-15",
            "su postgres -c \"psql -Atc 'select count(*) from t'\" 2>/dev/null | grep -q 5000",
        )
        .data(
            "su postgres -c \"psql -Atc 'select md5(string_agg(s, n::text order by n)) from t'\"",
        ),
        service("bind9", "bind9", "host -W 1 localhost 127.0.0.1 | grep -q 'has address'"),
        service(
            "dovecot",
            "dovecot-imapd",
            "exec 3<>/dev/tcp/127.0.0.1/143 && head -c 4 <&3 | grep -q OK",
        ),
        service(
            "rsync",
            "rsync",
            "rsync --timeout=2 rsync://127.0.0.1/ 2>/dev/null | grep -q files",
        )
        .data("sha256sum /srv/files/f"),
        service("rsyslog", "rsyslog", "systemctl is-active -q rsyslog"),
    ],
};

const RUNTIMES: Stage = Stage {
    name: "runtimes",
    packages: &[
        "nodejs",
        "python3",
        "perl",
        "ruby3.1",
        "tomcat10",
        "openjdk-17-jre-headless",
        "openssl",
        "curl",
    ],
    prepare: r#"
unit() { printf '[Service]\nExecStart=%s\nRestart=always\n[Install]\nWantedBy=multi-user.target\n' "$2" > /etc/systemd/system/$1.service; }
mkdir -p /srv/app && cd /srv/app && echo ok > index.html
echo "require('http').createServer((q,s)=>s.end('ok')).listen(9001)" > app.js
echo 'use IO::Socket::INET; $s=IO::Socket::INET->new(LocalPort=>9003,Listen=>50,ReuseAddr=>1); while($c=$s->accept){<$c>; print $c "HTTP/1.0 200 OK\r\n\r\nok"; close $c}' > app.pl
echo 'require "socket"; s=TCPServer.new(9004); loop{c=s.accept; c.gets; c.write "HTTP/1.0 200 OK\r\n\r\nok"; c.close}' > app.rb
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=lab 2>/dev/null
unit node "/usr/bin/node /srv/app/app.js"
unit python "/usr/bin/python3 -m http.server 9002 --directory /srv/app"
unit perl "/usr/bin/perl /srv/app/app.pl"
unit ruby "/usr/bin/ruby3.1 /srv/app/app.rb"
unit tls "/usr/bin/openssl s_server -quiet -accept 9006 -key /srv/app/key.pem -cert /srv/app/cert.pem -www"
systemctl daemon-reload && systemctl enable --now node python perl ruby tls
for i in $(seq 100); do curl -s -o /dev/null http://127.0.0.1:8080/ && break; sleep 0.3; done"#,
    live: &[
        "/var/lib/tomcat10",
        "/var/cache/tomcat10",
        "/etc/ssl/certs/java",
        "/usr/share/ca-certificates",
    ],
    services: &[
        service("nodejs", "nodejs", "curl -fsS -m 2 http://127.0.0.1:9001/ | grep -q ok"),
        service("python", "python3.11", "curl -fsS -m 2 http://127.0.0.1:9002/ | grep -q ok"),
        service("perl", "perl", "curl -fsS -m 2 http://127.0.0.1:9003/ | grep -q ok"),
        service("ruby", "ruby3.1", "curl -fsS -m 2 http://127.0.0.1:9004/ | grep -q ok"),
        service(
            "tomcat",
            "tomcat10",
            "curl -fsS -m 2 http://127.0.0.1:8080/ | grep -qi 'it works'",
        ),
        service(
            "openjdk",
            "openjdk-17-jre-headless",
            "curl -fsS -m 2 http://127.0.0.1:8080/ | grep -qi 'it works'",
        ),
        service(
            "openssl",
            "openssl libssl3",
            "curl -kfsS -m 2 https://127.0.0.1:9006/ | grep -q Cipher",
        ),
    ],
};

const LIBRARIES: Stage = Stage {
    name: "libraries",
    packages: &[
        "python3",
        "libarchive-tools",
        "xz-utils",
        "imagemagick",
        "ghostscript",
        "libnss3-tools",
    ],
    prepare: r#"
mkdir -p /srv/kept && cd /srv/kept && seq 10000 > f && xz -k f && bsdtar -cf f.tar f
convert -size 60x60 xc:red red.png
mkdir -p nss && certutil -N -d nss --empty-password"#,
    live: &[],
    services: &[
        service(
            "expat",
            "libexpat1",
            "python3 -c 'import xml.parsers.expat as e; e.ParserCreate().Parse(\"<a/>\", True)'",
        ),
        service("libarchive", "libarchive13", "bsdtar -tf /srv/kept/f.tar | grep -q f")
            .data("sha256sum /srv/kept/f"),
        service("xz", "xz-utils liblzma5", "xz -dc /srv/kept/f.xz | tail -1 | grep -q 10000"),
        service(
            "imagemagick",
            "imagemagick",
            "convert /srv/kept/red.png -resize 10x10 /tmp/small.png",
        )
        // Its coder for MAT files was built against a symbol that its own library does not export (`nm -D`).
        .refused("GetMagickUTCTime"),
        service(
            "imagemagick, accepted",
            "imagemagick --accept-missing GetMagickUTCTime@*/coders/mat.so",
            "convert /srv/kept/red.png -resize 10x10 /tmp/small.png",
        ),
        service(
            "ghostscript",
            "ghostscript",
            "echo '1 1 add = quit' | gs -q -dNODISPLAY -dBATCH - | grep -q 2",
        ),
        service("nss", "libnss3", "certutil -L -d /srv/kept/nss"),
    ],
};

const SYSTEM: Stage = Stage {
    name: "system",
    packages: &["sudo", "openssh-server", "containerd", "linux-image-amd64"],
    prepare: "true",
    live: &["/var/lib/containerd", "/var/lib/systemd/timers", "/var/lib/systemd/timesync"],
    services: &[
        service("sudo", "sudo", "sudo -n true").older("sudo"),
        service(
            "openssh",
            "openssh-server",
            "exec 3<>/dev/tcp/127.0.0.1/22 && head -c 4 <&3 | grep -q SSH",
        )
        .older("openssh"),
        service("containerd", "containerd", "ctr version | grep -q Server").older("containerd"),
        service("systemd", "systemd", "systemctl is-active -q ssh").older("systemd"),
        service("glibc", "libc6", "getent hosts localhost").older("glibc"),
        service(
            "kernel",
            "linux-image-amd64",
            "test -e /boot/initrd.img-$(ls /boot | sed -n 's/^vmlinuz-//p' | head -1)",
        ),
    ],
};
