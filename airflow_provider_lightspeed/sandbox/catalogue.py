"""The tickets and conversations that a shop starts with, each made on its own from the seed and its id."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate, repeat

from airflow_provider_lightspeed.sandbox.config import ShopConfig
from airflow_provider_lightspeed.sandbox.rng import generator, mix
from airflow_provider_lightspeed.sandbox.tickets import Message, Oddity, Ticket

_DAY = 86_400
_FIRST_CUSTOMER = 1_118_417
MESSAGES_PER_TICKET = 8
"""More than the catalogue writes for a ticket, so that its message ids never meet."""

# US English is the shop's own language; the weights are those of a European shop that also sells abroad.
_LANGUAGES = ("us", "us", "us", "us", "us", "nl", "nl", "nl", "nl", "nl", "nl", "en", "en", "de", "de", "de")

_PRODUCTS = (
    "Merino cardigan",
    "Ceramic mug",
    "Café table",
    "Trail shoe 42½",
    "Linen duvet 200×220",
    "Bike lamp",
)

# By the four bits of a ticket that choose; the first three are a customer, a language and properties that are odd.
_ODDITIES: dict[int, Oddity] = {
    3: "updatedAt",
    4: "subject",
    5: "memo",
    6: "messages",
    7: "language",
    8: "customer",
    9: "embedded",
}

_SUBJECTS = {
    "us": (
        "Order #{order}: where is my parcel? 📦",
        "Your order #{order} has a slight delay",
        "Return request for {product}",
        "Invoice for order #{order}",
        "Is the {product} back in stock soon?",
        "Wrong size delivered: {product}",
        "Discount code doesn't work",
        'Question about "{product}"',
        "Cancel order #{order} please",
    ),
    "nl": (
        "Bestelling {order}: vertraging bij de bezorging",
        "Retour aanvragen voor {product}",
        "Factuur van bestelling {order} ontbreekt",
        "Vraag over {product} – op voorraad in België?",
        "Pakket beschadigd ontvangen 😞",
        "Adres wijzigen voor bestelling {order}",
    ),
    "de": (
        "Bestellung {order}: Lieferverzögerung",
        "Rücksendung {product} – Größe passt nicht",
        "Rechnung für Bestellung {order}",
        "Frage zur Verfügbarkeit: {product}",
        "Gutschein lässt sich nicht einlösen",
    ),
}
_SUBJECTS["en"] = _SUBJECTS["us"]

_MEMOS = (
    "Called the carrier, parcel found",
    "Refund approved €25",
    "VIP – answer first",
    "Wacht op magazijn",
)

_CUSTOMER_SAYS = (
    "Hi, could you please help me with this? Thanks!",
    "Is there any news yet?\n\nKind regards",
    "That does not work for me, I'm afraid 😕",
)
_SHOP_SAYS = (
    "Thank you for your message. We are looking into it.",
    "Your parcel is on its way: you will get it tomorrow before noon.",
    "We have sent you a new label. Groetjes, het team 👋",
)

Seconds = int


class Catalogue:
    """Makes tickets. The older a ticket, the likelier it has been answered and closed."""

    def __init__(self, config: ShopConfig, end: Seconds) -> None:
        self._seed = config.seed
        self._config = config
        self._end = end
        self._customers = max(1, config.tickets // 3)

    def ids_and_times(self) -> Iterable[tuple[int, Seconds]]:
        """Return id and time of creation of each ticket, both rising."""
        config = self._config
        chance = generator(config.seed, "spread").random
        begin = self._end - int(config.days * _DAY)
        ids: Iterable[int] = range(config.first_id, config.first_id + config.tickets)
        if config.id_step > 1:
            widest = 2 * config.id_step - 1
            gaps = (1 + int(chance() * widest) for _ in range(config.tickets - 1))
            ids = accumulate(gaps, initial=config.first_id)
        moments = -(-config.tickets // config.per_second)
        distance = config.days * _DAY / max(1, moments)
        times = (begin + int(distance * (moment + chance())) for moment in range(moments))
        if config.per_second > 1:
            times = (time for moment in times for time in repeat(moment, config.per_second))
        return zip(ids, times, strict=False)

    def customer(self, number: int) -> int | None:
        """Return the customer of a ticket."""
        bits = mix(self._seed, number)
        if self._config.oddities and bits >> 60 in {0, 8}:
            return None
        return _FIRST_CUSTOMER + (bits >> 20) % self._customers

    def ticket(self, number: int, created_at: Seconds) -> Ticket:
        """Return the ticket with this id as it was before anybody touched it."""
        bits = mix(self._seed, number)
        language = _LANGUAGES[bits & 15]
        subjects = _SUBJECTS[language]
        subject = subjects[(bits >> 4) % len(subjects)].format(
            order=100_000 + (bits >> 10) % 900_000, product=_PRODUCTS[(bits >> 7) % len(_PRODUCTS)]
        )
        age = max(0, self._end - created_at)
        luck = bits >> 32 & 255
        if age > 30 * _DAY:
            closed, answered = luck < 235, luck < 250
        elif age > 3 * _DAY:
            closed, answered = luck < 140, luck < 200
        else:
            closed, answered = luck < 20, luck < 90
        is_new = age == 0
        touched = min(age, 14 * _DAY) * (bits >> 40 & 1023) // 1024 if answered or closed else 0
        odd = self._config.oddities
        oddity = _ODDITIES.get(bits >> 60) if odd else None
        return Ticket(
            id=number,
            created_at=created_at,
            updated_at=created_at if oddity == "updatedAt" else created_at + touched,
            is_answered=answered and not is_new,
            is_closed=closed and not is_new,
            is_todo=not closed and not is_new and bits >> 50 & 7 == 0,
            subject="" if oddity == "subject" else subject,
            memo=_MEMOS[bits >> 12 & 3] if bits >> 14 & 15 == 0 and oddity != "memo" else "",
            do_notify_answered=bits >> 53 & 1 == 1,
            language=None if odd and bits >> 60 == 1 else language,
            customer=self.customer(number),
            extra={"channel": "mail", "assignee": False} if odd and bits >> 60 == 2 else None,
            oddity=oddity,
        )

    def newcomer(self, number: int) -> Ticket:
        """Return a ticket that is neither answered nor closed."""
        return self.ticket(number, self._end)

    def messages(self, ticket: Ticket) -> list[Message]:
        """Return the conversation: the customer begins; the shop has the last word in an answered ticket."""
        bits = mix(self._seed + 1, ticket.id)
        exchanges = bits % 3
        length = 2 * exchanges + (2 if ticket.is_answered else 1)
        span = ticket.updated_at - ticket.created_at
        return [
            Message(
                id=ticket.id * MESSAGES_PER_TICKET + place,
                created_at=ticket.created_at + span * place // length,
                author="shop" if place % 2 else "customer",
                text=(_SHOP_SAYS if place % 2 else _CUSTOMER_SAYS)[(bits >> 8 + place) % 3],
            )
            for place in range(length)
        ]
