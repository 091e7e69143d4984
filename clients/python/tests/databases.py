"""The three databases, each with the service in front of it."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from environment import given


@dataclass(frozen=True)
class Database:
    """One of them, by the names of its variables."""

    name: str

    @property
    def service(self) -> str:
        """Where the service of this database is."""
        return given(f"TEST_{self.name}")

    @property
    def url(self) -> str:
        """The URL, or the path of the file."""
        return given(f"TEST_{self.name}_DB")

    def sqlalchemy(self, driver: str) -> str:
        """The URL as SQLAlchemy has it."""
        if self.name == "SQLITE":
            return f"{driver}:///{self.url}"
        return f"{driver}://{self.url.partition('://')[2]}"

    @property
    def mysql(self) -> dict[str, object]:
        """The arguments of MySQL's drivers."""
        url = urlsplit(self.url)
        return {
            "host": url.hostname,
            "port": url.port,
            "user": url.username,
            "password": url.password or "",
            "database": url.path.lstrip("/"),
            "charset": "utf8mb4",
        }


SQLITE = Database("SQLITE")
POSTGRES = Database("POSTGRES")
MYSQL = Database("MYSQL")
