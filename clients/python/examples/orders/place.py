"""Places an order: its row and its event are committed together, or neither is.

    python place.py DATABASE ITEM

DATABASE is a URL of SQLAlchemy, for instance sqlite:///eventstream.db.
"""

import sys

from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, insert

from futoin_eventstream import add_event

metadata = MetaData()
orders = Table(
    "python_orders",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("item", String(100), nullable=False),
)


def main(database: str, item: str) -> None:
    engine = create_engine(database)
    metadata.create_all(engine)
    with engine.begin() as connection:
        order = connection.execute(insert(orders).values(item=item)).inserted_primary_key[0]
        add_event(connection, "ORDER_PLACED", {"order": order, "item": item})
    print(f"order {order} placed")


main(*sys.argv[1:])
