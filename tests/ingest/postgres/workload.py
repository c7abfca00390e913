"""What an application does to its tables: random transactions, the same ones for a seed."""

import random
from typing import Any

import psycopg

SIZES = (0, 3, 40, 9000)  # the last is stored out of line, and not sent again when unchanged
START = "2013-02-01T00:00:00+00"


class Workload:
    """Random statements in random transactions; some are rolled back."""

    def __init__(self, connection: psycopg.Connection[Any], seed: int) -> None:
        self.connection = connection
        self.random = random.Random(seed)
        self.next_id = 0
        self.num_shifts = 0

    def fill(self, num_rows: int, *, num_long: int = 0) -> None:
        """Rows that are there before the capture; the long ones have a thousand characters."""
        for _ in range(num_rows):
            self._insert_plan()
        self.connection.execute(
            "insert into plans select %s + n, n, repeat('x', 1000) from generate_series(1, %s) n",
            [self.next_id, num_long],
        )
        self.next_id += num_long
        self._insert_orders()

    def transactions(self, number: int) -> None:
        for _ in range(number):
            self.transaction()

    def transaction(self) -> None:
        ends_well = self.random.random() > 0.1
        with self.connection.transaction(force_rollback=not ends_well):
            for _ in range(self.random.choice([1, 1, 2, 5, 12])):
                if self.random.random() < 0.15:
                    with self.connection.transaction(force_rollback=self.random.random() < 0.5):
                        self._statement()
                else:
                    self._statement()

    def _statement(self) -> None:
        statements = [
            (self._insert_plan, 4),
            (self._update_price, 5),
            (self._update_terms, 3),
            (self._move_plan, 3),
            (self._shift_plans, 1),
            (self._delete_plan, 2),
            (self._insert_orders, 2),
            (self._update_orders, 2),
            (self._delete_orders, 1),
            (self._truncate, 0.1),
        ]
        chosen, weights = zip(*statements, strict=True)
        self.random.choices(chosen, weights)[0]()

    def _insert_plan(self) -> None:
        self.next_id += 1
        self.connection.execute(
            "insert into plans values (%s, %s, %s)", [self.next_id, self._price(), self._terms()]
        )

    def _update_price(self) -> None:
        self.connection.execute(
            "update plans set price = %s where id = %s", [self._price(), self._some_id()]
        )

    def _update_terms(self) -> None:
        self.connection.execute(
            "update plans set terms = %s where id = %s", [self._terms(), self._some_id()]
        )

    def _move_plan(self) -> None:
        """A new key, sometimes one that another row had before; the terms are left alone."""
        self.next_id += 1
        taken = self._some_id()
        new = self.random.choice([self.next_id, max(1, taken - 1)])
        self.connection.execute(
            "update plans set id = %s, price = price + 1 where id = %s "
            "and not exists (select 1 from plans where id = %s)",
            [new, taken, new],
        )

    def _shift_plans(self) -> None:
        """Many keys move at once."""
        self.connection.execute(
            "update plans set id = id + %s where id > %s", [self.next_id, self._some_id()]
        )
        self.next_id *= 2

    def _delete_plan(self) -> None:
        self.connection.execute("delete from plans where id = %s", [self._some_id()])

    def _insert_orders(self) -> None:
        shop, number = self.random.choice("abc"), self.random.randint(1, 50)
        self.connection.execute(
            "insert into orders select %s, n, n / 4.0, %s::timestamptz + n * interval '1 hour' "
            "from generate_series(%s::int, %s::int) n on conflict do nothing",
            [shop, START, number, number + self.random.randint(0, 20)],
        )

    def _update_orders(self) -> None:
        self.num_shifts += 1
        self.connection.execute(
            "update orders set amount = nullif(amount + 1, 5), number = number + %s "
            "where shop = %s and number < %s",
            [
                self.random.choice([0, 1000 * self.num_shifts]),
                self.random.choice("abc"),
                self.random.randint(1, 40),
            ],
        )

    def _delete_orders(self) -> None:
        self.connection.execute(
            "delete from orders where shop = %s and number > %s",
            [self.random.choice("abc"), self.random.randint(1, 1100)],
        )

    def _truncate(self) -> None:
        self.connection.execute(self.random.choice(["truncate plans", "truncate plans, orders"]))

    def _price(self) -> int:
        return self.random.randint(0, 1000)

    def _terms(self) -> str | None:
        size = self.random.choice(SIZES)
        text = self.random.choice(['é"\n', "x,", "\\N"]) * size
        return self.random.choice([text[:size], text[:size], None])

    def _some_id(self) -> int:
        """A key that exists; 0 if there is none."""
        row = self.connection.execute(
            "select id from plans order by id offset floor(%s * (select count(*) from plans)) limit 1",
            [self.random.random()],
        ).fetchone()
        return 0 if row is None else int(row[0])
