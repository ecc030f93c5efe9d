"""The standard library's smtplib, one message after another on one connection."""

import smtplib

from benchmarks.senders.common import Work


def main() -> None:
    work = Work()
    with smtplib.SMTP_SSL(work.job["host"], work.job["port"], context=work.context) as client:
        for person in work.people():
            client.send_message(work.message(person))


if __name__ == "__main__":
    main()
