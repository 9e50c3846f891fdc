"""Makes expressions.json: small templates, and what transformers makes of them with one context.

`null` where it fails, or prints an address: nothing may be answered there. See generate.py for how to run it.
"""

import gzip
import json
import re
from pathlib import Path

from transformers.utils.chat_template_utils import _compile_jinja_template
ctx = {"s":"Hello wörld","e":"","ws":" \t\x1c a b \u2003\n","n":3,"neg":-7,"f":1.5,"f1":1.0,"t":True,"fa":False,"none":None,
 "l":["a","b","c"],"mix":[1,"x",None,True,1.0,{"k":"v'"}],"d":{"b":1,"a":"x","items":5,"C":2},"dn":{"x":{"y":None}},"el":[],"ed":{},
 "u":"ß ǆ İ ΑΣ ﬁ","lines":"a\r\nb\nc\x0bd\u2028e\n","q":"it's \"q\"\\\n\x07é","html":"<a href='x'>&\u2028</a>","num":"42","digits":"１２²","int64":9007199254740993,
 "msgs":[{"role":"user","content":"hi"},{"role":"assistant","content":None},{"role":"user","content":[{"type":"text","text":"part"}]}]}
E1 = '''s|s.upper()|s.lower()|e|none|t|fa|f|f1|n|neg|l|mix|d|dn|el|ed|u.upper()|u.lower()|u.title()|u.capitalize()|s.title()|s.capitalize()
missing|missing.x|none.x|d.zzz|d['zzz']|d.items|d['items']|d.keys|dn.x.y|dn.x.z|dn.z.y|l[0]|l[-1]|l[5]|l[1:]|l[:-1]|l[::-1]|l[::2]|s[1:4]|s[::-1]|s[-3:]|mix[5].k
ws.strip()|ws.lstrip()|ws.rstrip()|s.strip('Hd')|s.lstrip('He')|s.rstrip('dl')|s.split()|s.split(' ')|ws.split()|e.split()|e.split(',')|s.split('l',1)|s.rsplit('l',1)|s.partition('l')|s.splitlines()|lines.splitlines()|lines.splitlines(true)|lines.split('\\n')
s.startswith('He')|s.startswith(('x','H'))|s.endswith('d')|s.find('l')|s.rfind('l')|s.find('zz')|s.index('l')|s.count('l')|s.replace('l','L')|s.replace('l','L',1)|s.replace('','-')|s.isdigit()|num.isdigit()|digits.isdigit()|digits.isnumeric()|s.isalpha()|s.isalnum()|num.isnumeric()|s.isupper()|s.islower()|s.isspace()|ws.isspace()|s.zfill(20)|s.center(20)|s.ljust(20)|s.encode()|s.format(1)|'{} {}'.format(1,none)|'{0}'.format(t)|'-'.join(l)|', '.join(['a',1])|s.removeprefix('He')|s.removesuffix('ld')|s.swapcase()|s.casefold()
d.get('a')|d.get('zz')|d.get('zz','def')|d.keys()|d.values()|d.items()|d.keys()|l.index('b')|l.count('a')|l.append('x')|d.update({})|d.pop('a')|l.pop()
s|trim|none|trim|n|trim|missing|trim|ws|trim|s|trim('Hd')|l|length|s|length|d|length|none|length|missing|length|n|length|s|upper|none|upper|s|lower|s|title|u|title|s|capitalize|l|join|l|join(', ')|mix|join(',')|s|join('-')|d|join(',')|missing|join|none|join
l|first|l|last|el|first|el|last|s|first|s|last|d|first|d|list|s|list|l|list|d|items|d|items|list|d|dictsort|d|dictsort(true)|d|dictsort(by='value')|s|string|none|string|t|string|f1|string|l|string|mix|string|missing|string|'5'|int|'x'|int|'x'|int(7)|none|int|f|int|'3.7'|int|'0x10'|int|t|int|num|float|s|float|missing|default('z')|none|default('z')|e|default('z')|e|default('z',true)|none|default('z',true)|none|d('z')
d|tojson|mix|tojson|s|tojson|html|tojson|q|tojson|f1|tojson|int64|tojson|none|tojson|t|tojson|d|tojson(indent=2)|mix|tojson(indent=4)|el|tojson(indent=2)|ed|tojson(indent=2)|d|tojson(ensure_ascii=true)|s|tojson(ensure_ascii=true)|d|tojson(sort_keys=true)|d|tojson(separators=(',',':'))|missing|tojson|dn|tojson(indent=0)|dn|tojson(4)|{1:2,none:3,true:4,1.5:6}|tojson|range(3)|tojson|(1,2)|tojson|d.items()|tojson|d|tojson(indent='\\t')
s|replace('l','L')|s|replace('l','L',1)|none|replace('o','0')|s|reverse|l|reverse|list|l|reverse|s|indent|lines|indent|lines|indent(2)|lines|indent(2,true)|lines|indent(2,first=true)|lines|indent(2,false,true)|'a\\n\\nb'|indent(2)|'a\\n\\nb'|indent(2,blank=true)|'a\\n'|indent(4)|e|indent(2,true)|s|safe|html|escape|html|e|s|wordcount|s|truncate(5)|l|unique|list|[3,1,2]|sort|['b','A','c']|sort|[1,'a']|sort|[3,1]|min|[3,1]|max|[1,2]|sum|neg|abs|f|round|2.567|round(2)|2.5|round|3|round|f|round|int|l|map('upper')|list|msgs|map(attribute='role')|list|msgs|map(attribute='zz')|list|msgs|map(attribute='zz',default='q')|list|msgs|selectattr('role','equalto','user')|list|length|msgs|selectattr('role','eq','user')|map(attribute='content')|list|msgs|rejectattr('role','==','user')|list|msgs|selectattr('content')|list|length|[0,1,2]|select|list|[0,1,none]|reject('none')|list|[0,1,2,3]|select('odd')|list|[1,2,3]|batch(2)|list|l|slice(2)|list|d|pprint|'%s' % s|'%d-%s' % (1,s)|'%s'|format(s)
s ~ n|s ~ none|s ~ t|s ~ f1|s ~ l|s ~ missing|none ~ none|1 ~ 2|s ~ d|'a' ~ 1 + 2|1 + 2 ~ 'a'|'x' * 3|3 * 'x'|l + l|l + ['z']|s + 'x'|s + n|s + none|s + missing|missing + s|n + 1|n + f|t + 1|7 // 2|neg // 2|7 / 2|6 / 2|neg % 3|7 % -3|2 ** 10|2 ** -1|-n|+n|-s|n - 1|1 / 0|1.5 // 1|n * 1.5
1 == 1.0|t == 1|fa == 0|'1' == 1|none == fa|missing == none|missing == missing|missing is none|l == ['a','b','c']|l == ('a','b','c')|d == d|ed == {}|1 < 2|'a' < 'b'|'a' < 1|none < 1|1 < 2 < 3|3 > 2 > 2|[1,2] < [1,3]|t < 2|missing < 1|missing < missing
'a' in l|'z' in l|'a' in d|'ell' in s|1 in s|none in s|none in l|'a' in missing|'a' in none|'a' not in l|1 in mix|'' in s|1.0 in [1]|'a' in n
t and s|fa and s|fa or s|e or 'x'|none or none|not t|not e|not missing|t and e or 'w'|(s if t else 'n')|(s if fa)|(s if fa else none)|s if missing else 'gone'|1 if el else 2|1 if ed else 2|1 if 0.0 else 2
s is string|n is string|none is string|missing is string|s is mapping|d is mapping|l is mapping|s is sequence|l is sequence|d is sequence|none is sequence|n is sequence|missing is sequence|s is iterable|d is iterable|n is iterable|none is iterable|missing is iterable|range(3) is iterable|range(3) is sequence|n is number|t is number|f is number|s is number|n is integer|t is integer|f1 is integer|f1 is float|t is boolean|n is boolean|t is true|1 is true|fa is false|0 is false|e is false|none is none|missing is none|none is defined|missing is defined|missing is undefined|d.zzz is defined|d.a is defined|d.items is defined|n is odd|n is even|6 is divisibleby 3|n is eq 3|n is equalto 3|n is ne 3|n is lt 4|n is gt 2|n is ge 3|n is le 3|n is in [3]|'a' is in l|s is upper|'A' is upper|'a' is lower|n is sameas 3|none is sameas none|t is sameas true|l is callable|range is callable|n is not none|l is not string|not n is none|n is none or t|s is not defined and t|s is string and s|length > 2|d.items() is iterable|d.items() is sequence|d.items() is mapping|d.keys() is sequence
range(3)|range(3)|list|range(1,3)|list|range(3,0,-1)|list|range(0)|list|dict(a=1)|dict(a=1).a|namespace(a=1).a|namespace(a=1)|[1,2,3][1]|{'a':1}['a']|{'a':1}.a|(1,2)[0]|(1,)|()|[1,'a',none,true,1.5]|{'a':[1,{'b':none}]}|'a' 'b'|"it's"|'a"b'|["it's"]|['a"b']|['a"\\'b']|['\\n\\t\\\\']|['é']|['\\x07']|true|True|none|None|False|1e3|1_000|0x10|0b11|0o7|1.|.5|1.50|100000000000000000000|9223372036854775808|-0.0|1e16|1e15|123456789.123|1e-4|1e-5|5 // 0|loop|self|super|joiner|cycler|lipsum'''
T2 = r'''{% for x in none %}x{% else %}empty{% endfor %}
{% for x in missing %}x{% else %}empty{% endfor %}
{% for x in n %}x{% endfor %}
{% for x in s %}{{ x }},{% endfor %}
{% for k in d %}{{ k }},{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}
{% for k, v in d %}{{ k }}={{ v }};{% endfor %}
{% for k, v in l %}{{ k }}{% endfor %}
{% for a, b in [['x','y'],('z','w')] %}{{ a }}{{ b }}{% endfor %}
{% for a, b in [['x','y','z']] %}{{ a }}{{ b }}{% endfor %}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}
{% for x in l %}{{ loop.previtem }}-{{ loop.nextitem }} {% endfor %}
{% for x in l %}{{ loop.cycle('o','e') }}{{ loop.changed(x) }}{% endfor %}
{% for x in l if x != 'b' %}{{ loop.index }}{{ x }}{{ loop.last }}{% endfor %}
{% for x in l %}{% if x == 'b' %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in l %}{% if x == 'b' %}{% continue %}{% endif %}{{ x }}{% endfor %}
{% for x in l recursive %}{{ x }}{% if x == 'a' %}{{ loop(['z']) }}{% endif %}{% endfor %}
{% set y = 1 %}{% for x in l %}{% set y = y + 1 %}{% endfor %}{{ y }}
{% set ns = namespace(y=1) %}{% for x in l %}{% set ns.y = ns.y + 1 %}{% endfor %}{{ ns.y }}
{% set ns = namespace() %}{% set ns.a = [] %}{% set ns.a = ns.a + [1] %}{{ ns.a }}{{ ns.zz is defined }}
{% set ns = namespace({'a': 1}) %}{{ ns.a }}
{% set ns = namespace(_a=1) %}{{ ns._a }}
{% if t %}{% set y = 2 %}{% endif %}{{ y }}
{% if fa %}{% set y = 2 %}{% endif %}{{ y }}|{{ y is defined }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}
{% set a = 1, 2 %}{{ a }}
{% set x %}  bl{{ n }}ock  {% endset %}[{{ x }}]{{ x is string }}
{% set x | upper %}block{% endset %}{{ x }}
{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, b=3) }} {{ m('x', 4) }} {{ m() }}
{% macro m(a) %}{{ a }}{{ s }}{{ zz }}{% endmacro %}{% set zz = 5 %}{{ m(1) }}
{% macro m(a) %}{{ caller() }}{{ a }}{% endmacro %}{% call m(1) %}in{% endcall %}
{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}
{% macro m(a) %}{% if a > 0 %}{{ a }}{{ m(a - 1) }}{% endif %}{% endmacro %}{{ m(3) }}
{% macro m() %} x {% endmacro %}{{ m() | trim }}|{{ m() ~ 'y' }}|{{ m() is string }}
{% macro m(x) %}{{ x.y }}{% endmacro %}{{ m(d) }}
{% with a = 1, b = a %}{{ a }}{{ b }}{% endwith %}
{% with a = 1 %}{% set z = 3 %}{{ a }}{% endwith %}{{ z }}
{% filter upper %}abc{{ s }}{% endfilter %}
{% raw %}{{ x }}{% endraw %}
{% do l.append(1) %}
a{# c #}b
a {#- c -#} b
  {% if t %}
  x
  {% endif %}
 y
{%- if t %} x {%- endif -%}  y
{%+ if t %} x {% endif +%}
 y
{{- ' x ' -}}  y
  {{ s }}
  z
{% if t -%}
   x
{%- endif %}

{% generation %}x{% endgeneration %}
{%- for m in msgs %}{{ m.role }}:{{ m['content'] }};{%- endfor %}
{%- for m in msgs %}{{ m.role }}:{% if m.content is string %}{{ m.content }}{% elif m.content is iterable %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %};{%- endfor %}
{{ raise_exception('x') }}
{% if msgs[0]['role'] == 'system' %}S{% else %}N{% endif %}
{% set m = msgs[0] %}{% set rest = msgs[1:] %}{{ rest|length }}{{ m.role }}
{% set loop_messages = msgs %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}X{% endif %}{% endfor %}
{% for m in msgs[::-1] %}{% set index = (msgs|length - 1) - loop.index0 %}{{ index }}{% endfor %}
{% set content = msgs[0].content.split('</think>')[-1].lstrip('\n') %}{{ content }}
{{ '\x41\u00e9\t\'\"\\' }}
{{ '\101\a\v\/\q\0' }}
{{ '\U0001F600' }}
{{ '\N{BULLET}' }}
{{ "a\
b" }}
{% set x = [1,2] %}{{ x.append(3) }}{{ x }}
{% set x = {} %}{{ x.update({'a':1}) }}{{ x }}
{% set dd = {'items': 1} %}{{ dd.items }}|{{ dd['items'] }}
{% set dd = {'b': 1} %}{% if dd['items'] %}Y{% else %}N{% endif %}{% if dd.items %}Y{% else %}N{% endif %}{{ dd['keys'] is defined }}{{ dd.get is defined }}
{% set dd = {'items': [7]} %}{% for k, v in dd.items() %}{{ k }}{{ v }}{% endfor %}
{{ l.0 }}{{ l[0] }}{{ d.a }}
{{ s.upper }}
{{ s.x is defined }}{{ l.x is defined }}{{ n.x is defined }}{{ s['x'] is defined }}{{ l['x'] is defined }}{{ s[100] is defined }}
{{ none['x'] is defined }}
{{ n[0] }}
{{ l['0'] }}
{{ d[1] is defined }}{{ d[none] is defined }}{{ d[l] }}
{% if l is defined and l is not none and l | length > 0 %}ok{% endif %}
{{ (l | map('upper') | list)[0] }}
{{ l | map('upper') | join('+') }}
{{ msgs | selectattr('role', 'equalto', 'user') | map(attribute='role') | join(',') }}
{{ (msgs | selectattr('role', 'equalto', 'user') | list)[-1].role }}
{{ msgs | selectattr('role', 'in', ['user']) | list | length }}
{{ msgs | map(attribute='content') | select('string') | join('/') }}
{{ {'a': 1} | tojson }}{{ [] | tojson }}{{ {} | tojson }}
{{ d | items | list | tojson }}
{{ '%s-%s' | format(1, 'a') }}
{{ {'a': 1, 'b': 2} | dictsort }}
{{ {'a': none} }}
{{ [none, true] | join(',') }}
{{ x | default(none) }}{{ x | default('') }}
{{ strftime_now }}
{{ bos_token }}
{%- set tools = tools if tools is defined else none %}{{ tools is none }}
{{ 'a' if msgs[0].content is none else 'b' }}
{{ msgs[1].content is none }}{{ msgs[1].content }}{{ msgs[1].content or '' }}
{{ msgs[1].content | trim }}
{{ msgs[1].content + 'x' }}
{{ msgs[2].content + 'x' }}
{{ msgs[2].content | trim }}
{{ s[0] | upper }}{{ s[1:] }}
{{ -1 | abs }}{{ 2 ** 3 ** 2 }}{{ -2 ** 2 }}{{ not t == fa }}{{ 1 + 2 * 3 - 4 }}{{ 10 - 2 - 3 }}{{ 'a' ~ 'b' * 2 }}
{{ t is true and n is integer }}{{ 1 if t else 2 if fa else 3 }}{{ t if t }}
{{ 'a,b'.split(',')|length }}{{ 'x'|length + 1 }}
{{ "%.2f" % f }}{{ "%5d" % n }}
{{ [1, 2] | sum }}{{ ['a'] * 2 }}
{{ dict(l) }}
{{ dict([['a', 1]]) }}
{{ l[1:][0] }}{{ l[n - 1] }}{{ l[1.0] }}
{{ l[t] }}
{{ l | length == 3 and s | length > 2 }}
{% for i in range(2, -1, -1) %}{{ i }}{% endfor %}
{% for i in range(f) %}{% endfor %}
{% for x in l %}{% set last = loop.last %}{% endfor %}{{ last is defined }}
{% for x in l %}{% for y in l %}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}
{{ loop is defined }}
{% set x = 1 %}{% macro m() %}{{ x }}{% set x = 2 %}{{ x }}{% endmacro %}{{ m() }}{{ x }}
{% if missing.x is defined %}a{% endif %}
{% if d.zz and d.zz.y %}a{% else %}b{% endif %}
{% if not d.zz.y %}a{% endif %}
{{ l|join(', ', attribute='x') }}
{{ s | default('x') | length }}
{{ '' | default('x', boolean=true) }}
{{ u.lower() }}{{ 'İ'.lower() | length }}{{ 'ΑΣ'.lower() }}{{ 'ǆ'.title() }}{{ 'ß'.capitalize() }}{{ "they're bill's".title() }}
{{ 'ﬁ'.upper() }}{{ 'ﬁx'.capitalize() }}{{ 'hELLO wORLD'.capitalize() }}{{ 'a-b_c d1e'.title() }}'''
FILTERS=set("trim length upper lower title capitalize join first last list items dictsort string int float default d tojson replace reverse indent safe escape e wordcount truncate unique sort min max sum abs round map selectattr rejectattr select reject batch slice pprint format count".split())
exprs=[]
for line in E1.split('\n'):
    parts=line.split('|'); i=0
    while i<len(parts):
        cur=parts[i]; i+=1
        while i<len(parts) and re.match(r"[a-z]+",parts[i]) and re.match(r"[a-z_]+",parts[i]).group() in FILTERS and re.fullmatch(r"[a-z]+(\(.*\))?( .*)?",parts[i]) and parts[i] not in("e","d"):
            cur+="|"+parts[i]; i+=1
        exprs.append(cur)
cases=[ "{{ %s }}"%e for e in exprs]+[t for t in T2.split('\n') if t]
cases+=["  {% if t %}\n  x\n  {% endif %}\n y","{%+ if t %} x {% endif +%}\n y","  {{ s }}\n  z\n","{% if t -%}\n   x\n{%- endif %}\n\n","a\r\nb\rc\n","{# c #}\nx","  {# c #}\n x","{% set x = 1 %}\n{% set y = 2 %}\n{{ x }}\n\n{{ y }}\n","\n{% if t %}\n\n a {%- if t %} b{% endif -%} \n{% endif %}\n"]
given = {"messages": [{"role": "user", "content": "x"}], "tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "<|begin|>", "eos_token": "<|im_end|>"}
results = []
for case in dict.fromkeys(cases):
    try:
        result = _compile_jinja_template(case).render(**given, **json.loads(json.dumps(ctx)))
    except Exception:
        result = None
    results.append((case, None if result is None or re.search("(?<!&)(<class|at 0x)", result) else result))
with gzip.GzipFile(Path(__file__).parent / "expressions.json.gz", "wb", mtime=0) as file:
    file.write(json.dumps({"context": ctx, "cases": results}).encode())
