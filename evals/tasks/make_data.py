"""`python -m evals.tasks.make_data`: write the data of the tasks in this directory, byte for byte the same every time.

Draws come from SHA-256, not from `random`, so that no Python version changes them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
SEED = 0
N_PROBLEMS = 100

#: Countries whose capital is undisputed and does not contain the country's name.
CAPITALS = """
Afghanistan=Kabul|Albania=Tirana|Angola=Luanda|Argentina=Buenos Aires|Armenia=Yerevan|Australia=Canberra|Austria=Vienna
Azerbaijan=Baku|the Bahamas=Nassau|Bahrain=Manama|Bangladesh=Dhaka|Barbados=Bridgetown|Belarus=Minsk|Belgium=Brussels
Belize=Belmopan|Bhutan=Thimphu|Botswana=Gaborone|Bulgaria=Sofia|Burkina Faso=Ouagadougou|Cambodia=Phnom Penh
Cameroon=Yaoundé|Canada=Ottawa|Cape Verde=Praia|Chad=N'Djamena|Chile=Santiago|China=Beijing|Colombia=Bogotá
Costa Rica=San José|Croatia=Zagreb|Cuba=Havana|Cyprus=Nicosia|the Czech Republic=Prague|Denmark=Copenhagen
the Dominican Republic=Santo Domingo|Ecuador=Quito|Egypt=Cairo|Eritrea=Asmara|Estonia=Tallinn|Ethiopia=Addis Ababa
Fiji=Suva|Finland=Helsinki|France=Paris|Gabon=Libreville|the Gambia=Banjul|Germany=Berlin|Ghana=Accra|Greece=Athens
Guinea=Conakry|Guyana=Georgetown|Haiti=Port-au-Prince|Honduras=Tegucigalpa|Hungary=Budapest|Iceland=Reykjavik
India=New Delhi|Iran=Tehran|Iraq=Baghdad|Ireland=Dublin|Italy=Rome|Jamaica=Kingston|Japan=Tokyo|Jordan=Amman
Kazakhstan=Astana|Kenya=Nairobi|Kyrgyzstan=Bishkek|Laos=Vientiane|Latvia=Riga|Lebanon=Beirut|Lesotho=Maseru
Liberia=Monrovia|Libya=Tripoli|Lithuania=Vilnius|Madagascar=Antananarivo|Malawi=Lilongwe|the Maldives=Malé|Mali=Bamako
Malta=Valletta|Mauritania=Nouakchott|Mauritius=Port Louis|Moldova=Chișinău|Mongolia=Ulaanbaatar|Morocco=Rabat
Mozambique=Maputo|Namibia=Windhoek|Nepal=Kathmandu|the Netherlands=Amsterdam|New Zealand=Wellington|Nicaragua=Managua
Niger=Niamey|Nigeria=Abuja|North Korea=Pyongyang|North Macedonia=Skopje|Norway=Oslo|Oman=Muscat|Pakistan=Islamabad
Papua New Guinea=Port Moresby|Paraguay=Asunción|Peru=Lima|the Philippines=Manila|Poland=Warsaw|Portugal=Lisbon
Qatar=Doha|Romania=Bucharest|Russia=Moscow|Rwanda=Kigali|Samoa=Apia|Saudi Arabia=Riyadh|Senegal=Dakar|Serbia=Belgrade
Sierra Leone=Freetown|Slovakia=Bratislava|Slovenia=Ljubljana|Somalia=Mogadishu|South Korea=Seoul|South Sudan=Juba
Spain=Madrid|Sudan=Khartoum|Suriname=Paramaribo|Sweden=Stockholm|Syria=Damascus|Tajikistan=Dushanbe|Thailand=Bangkok
Togo=Lomé|Turkey=Ankara|Turkmenistan=Ashgabat|Uganda=Kampala|Ukraine=Kyiv|the United Kingdom=London|Uruguay=Montevideo
Uzbekistan=Tashkent|Venezuela=Caracas|Vietnam=Hanoi|Zambia=Lusaka|Zimbabwe=Harare
"""

NAMES = ("Anna", "Ben", "Clara", "David", "Emma", "Farid", "Grace", "Hugo", "Iris", "Jonas", "Kemi", "Liam", "Mei")
THINGS = ("apples", "books", "coins", "pencils", "shells", "stamps", "marbles", "cards", "oranges", "stickers")
#: One step each: (question, answer from a and b, smallest and largest a, smallest and largest b).
TEMPLATES: tuple[tuple[str, str, int, int, int, int], ...] = (
    ("{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have now?", "a+b", 2, 15, 2, 9),
    ("There are {a} {thing} in one box and {b} in another. How many {thing} are there in all?", "a+b", 2, 12, 2, 12),
    ("{name} found {a} {thing} on Monday and {b} on Tuesday. How many {thing} did {name} find?", "a+b", 2, 12, 2, 12),
    ("{name} had {a} {thing} and gave away {b}. How many {thing} are left?", "a-b", 10, 20, 2, 9),
    ("A bag held {a} {thing}. {name} took out {b}. How many {thing} are still in the bag?", "a-b", 10, 20, 2, 9),
    ("{name} needs {a} {thing} and already has {b}. How many more {thing} does {name} need?", "a-b", 10, 20, 2, 9),
    ("There are {a} boxes with {b} {thing} in each. How many {thing} are there in total?", "a*b", 2, 6, 2, 6),
    ("{name} buys {a} packs of {b} {thing}. How many {thing} does {name} buy?", "a*b", 2, 6, 2, 6),
    ("{name} shares {ab} {thing} equally among {a} friends. How many {thing} does each friend get?", "b", 2, 6, 2, 6),
    ("{ab} {thing} are put into {a} equal rows. How many {thing} are in each row?", "b", 2, 6, 2, 6),
)


def _number(*key: object) -> int:
    """A large integer that depends on `key` and the seed only."""
    return int(hashlib.sha256(":".join(map(str, (SEED, *key))).encode()).hexdigest(), 16)


def capitals() -> list[dict[str, Any]]:
    """One row a country: the right capital among three capitals of other countries, order drawn."""
    pairs = [entry.split("=") for line in CAPITALS.split("\n") for entry in line.split("|") if entry]
    rows = []
    for country, capital in pairs:
        others = sorted((other for _, other in pairs if other != capital), key=lambda c: _number("other", country, c))
        choices = sorted([capital, *others[:3]], key=lambda c: _number("order", country, c))
        rows.append({"country": country, "choices": choices, "answer": choices.index(capital)})
    return rows


def word_arithmetic() -> list[dict[str, Any]]:
    """`N_PROBLEMS` different one-step problems, templates in turn."""
    rows: dict[str, dict[str, Any]] = {}
    draw = 0
    while len(rows) < N_PROBLEMS:
        text, rule, a_low, a_high, b_low, b_high = TEMPLATES[len(rows) % len(TEMPLATES)]
        a = a_low + _number("a", draw) % (a_high - a_low + 1)
        b = b_low + _number("b", draw) % (b_high - b_low + 1)
        name, thing = NAMES[_number("name", draw) % len(NAMES)], THINGS[_number("thing", draw) % len(THINGS)]
        question = text.format(name=name, thing=thing, a=a, b=b, ab=a * b)
        answer = {"a+b": a + b, "a-b": a - b, "a*b": a * b, "b": b}[rule]
        rows.setdefault(question, {"question": question, "answer": str(answer)})
        draw += 1
    return list(rows.values())


def make_data(directory: Path) -> list[Path]:
    """Write both files into `directory` and return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, rows in (("capitals", capitals()), ("word_arithmetic", word_arithmetic())):
        path = directory / f"{name}.jsonl"
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_bytes(text.encode())
        written.append(path)
    return written


if __name__ == "__main__":
    for path in make_data(DATA):
        print(path)
